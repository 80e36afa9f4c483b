//! A pod's volumes and files on the node.
//!
//! ```text
//! PodDesired + Sources ── set_up ──► volume name → path
//!                         update      objects, tokens, labels that changed
//!        mount_sources ─► what to bind into a container (subPath resolved safely)
//!      write_pod_files ─► /etc/hosts, /etc/hostname, /etc/resolv.conf
//!            tear_down ─► nothing is left, and nothing else is touched
//!
//! ROOT/pods/UID/
//!   volumes/kubernetes.io~empty-dir/NAME   …~configmap/NAME
//!           kubernetes.io~secret/NAME   …~projected/NAME   …~downward-api/NAME (all tmpfs)
//!   volume-subpaths/VOLUME/CONTAINER/INDEX
//!   containers/NAME/ATTEMPT                termination log
//!   etc-hosts  etc-hostname  resolv.conf
//! ```
//!
//! Paths, modes and words are the kubelet's. Every call can be repeated and after a
//! restart finds what is there. All calls block.
#![forbid(unsafe_code)]

mod atomic;
mod error;
mod folder;
mod host_path;
mod hosts;
mod mount;
mod objects;
mod ownership;
mod pod_files;
mod resolv;
mod roots;
mod setup;
mod sub_path;
mod teardown;

pub use error::{TearDownError, VolumeError};
pub use hosts::{hosts, node_hosts};
pub use objects::{ObjectData, Objects, Sources};
pub use pod_files::{NodeFiles, PodFiles, make_termination_log, write_pod_files};
pub use resolv::{ResolvConf, node_searches, resolv_conf};
pub use roots::Roots;
pub use setup::{Updated, set_up, update};
pub use sub_path::{MountSource, mount_sources};
pub use teardown::tear_down;
