//! How the agent talks to a Kubernetes API server.
//!
//! A [`Kubeconfig`] becomes [`Settings`], and these a [`Client`]: typed requests over
//! HTTP/2 with rustls, credentials that are renewed while it runs, and connections that
//! are found dead within ten seconds. [`watch()`] follows a collection through whatever
//! happens to the server.
//!
//! ```text
//!  kubeconfig ─▶ Settings ─▶ Client ──┬─▶ get, list, create, patch, delete, …
//!                             │  ▲    ├─▶ request_certificate, request_token
//!     credentials: token file,│  │    └─▶ watch ─▶ Begin, Item…, Done, Applied, Deleted, …
//!     plugin ─────────────────┘  └─ connections: one for calls, one for each 80 watches
//! ```
//!
//! What is retried here is what is safe to repeat without knowing what it was for; all
//! else comes back as an [`ApiError`], because whoever asked knows whether it still matters.
#![forbid(unsafe_code)]

mod certificate;
mod client;
mod connection;
mod credentials;
mod error;
mod kubeconfig;
mod plugin;
mod request;
mod resource;
mod retry;
mod settings;
mod watch;

pub use certificate::{CERTIFICATE_WAIT, CertificateRequest};
pub use client::Client;
pub use error::{ApiError, CertificateRefusal, Source, Status, StatusCause};
pub use kubeconfig::{Kubeconfig, write_kubeconfig};
pub use request::{DeleteOptions, ListOptions, Page, Patch, Preconditions, Selectors};
pub use resource::{
    CERTIFICATE_SIGNING_REQUESTS, CONFIG_MAPS, CORE_EVENTS, CSI_DRIVERS, CSI_NODES, Collection, ENDPOINT_SLICES,
    EVENTS, LEASES, NAMESPACES, NODES, Object, PODS, PRIORITY_CLASSES, RUNTIME_CLASSES, Resource, SECRETS,
    SERVICE_ACCOUNTS, SERVICES, SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS,
};
pub use settings::{Bearer, Identity, Pem, Plugin, PluginCluster, Secret, Settings};
pub use watch::{Watch, WatchChange, WatchEvent, WatchHealth, WatchOptions, WatchState, watch};
