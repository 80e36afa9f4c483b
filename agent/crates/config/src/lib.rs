//! Configuration documents: what the agent is told by files, drop-ins and flags.
//!
//! ```text
//!  defaults ◀── files ◀── drop-ins (KEP-3983) ◀── flags        the right one wins
//!                 └──────────────┬───────────────┘
//!                              load ──▶ Loaded { orlop, kubelet, proxy, warnings }
//! ```
//!
//! * `OrlopConfiguration`, `KubeletConfiguration` and `KubeProxyConfiguration` may stand in one
//!   file, as documents, or in several.
//! * [`kubelet_fields`] and [`proxy_fields`] are the tables of all fields and of what is done with
//!   each. A field that Orlop does not act on is a [`Warning`] with what happens instead; one
//!   that no version knows is an error, as it is for the kubelet.
//! * [`KubeletFlags`] reads the kubelet's flags where kubeadm leaves them; [`Kubeadm`] finds them.
//!
//! All of it works on texts; [`Source`], [`DropIns`] and [`Kubeadm`] are the thin part that reads files.
#![forbid(unsafe_code)]

mod check;
mod document;
mod duration;
mod error;
mod eviction;
mod field;
mod flags;
mod kubeadm;
mod kubelet;
mod kubelet_fields;
mod load;
mod merge;
mod orlop;
mod partly;
mod proxy;
mod proxy_fields;
mod quantity;
mod reserved;
mod service;
mod source;
mod taint;
mod text;
mod validate;

pub use check::{Grade, Warning};
pub use error::ConfigError;
pub use eviction::{At, EvictionSignal};
pub use field::{Field, Kind, Treatment, markdown};
pub use flags::KubeletFlags;
pub use kubeadm::{Kubeadm, environment_args};
pub use kubelet::{
    Anonymous, Authentication, Authorization, AuthorizationMode, CrashLoopBackOff, KubeletConfiguration, MemorySwap,
    SwapBehavior, WebhookAuthentication, WebhookAuthorization, X509,
};
pub use load::{Inputs, Loaded, kubelet_fields, load, proxy_fields};
pub use orlop::{NodeRouting, NodeRoutingError, OrlopConfiguration};
pub use proxy::{IpTables, KubeProxyConfiguration, ProxyMode};
pub use reserved::ReservedResources;
pub use service::{
    Acceleration, HealthzAddress, Interval, LoadBalancing, MaglevTableSize, NodePortAddresses, NodePortMode,
    ServicesConfiguration, SnatPorts, ValueError,
};
pub use source::{DropIns, Source};
pub use taint::parse_taints;
