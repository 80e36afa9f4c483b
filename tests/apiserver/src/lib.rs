//! An in-process Kubernetes API server for tests. It behaves as the real one does where
//! that matters to a node: resource versions, watches with bookmarks and 410, selectors,
//! paging, four kinds of patch, sub-resources, defaulting, graceful deletion, certificate
//! requests, tokens, node authorization; and it can be told to misbehave.
//!
//! ```text
//!   test ── ApiServer ──┐                 ┌── watch ──▶ node under test
//!            (direct)   ▼                 │  (TLS, HTTP/1.1 and 2)
//!                  operations ──▶ store ──┤
//!   node ── http ──────▲  ▲               └── controllers (bind, slices, sign, …)
//!     faults, auth ────┘  └── admission
//! ```
//!
//! Source of words and rules: `k8s.io/apiserver` and the registries of v1.36.

#![forbid(unsafe_code)]

mod admission;
mod auth;
mod cluster;
mod connection;
mod controllers;
mod direct;
mod discovery;
mod events;
mod faults;
mod http;
mod listing;
mod operations;
mod options;
mod patch;
mod removal;
mod request;
mod requests;
mod resource;
mod reviews;
mod selector;
mod server;
mod status;
mod store;
mod subresources;
mod watch;

pub use auth::{Rule, User};
pub use controllers::{ReplicaSet, Update};
pub use faults::{Fault, FaultId, Faults};
pub use options::{Bind, Controllers, Options, Signing};
pub use patch::Patch;
pub use requests::Request;
pub use server::ApiServer;
pub use status::Status;
pub use store::{Change, Snapshot};
