//! The integration tests' harness: a [`World`] is a node that the real `orlop agent`
//! runs on, in namespaces of its own.
//!
//! ```text
//!   node's network namespace                  outside's
//!   ┌──────────────────────────────┐        ┌──────────────────┐
//!   │ lo   agent, pods' veths   up0├────────┤out0  a client    │
//!   │      10.99.0.1, default ────▶│        │10.99.0.2         │
//!   └──────────────────────────────┘        └──────────────────┘
//!   mount namespace with its own bpffs · cgroup /orlop-it-PID-N · /tmp/oXXXXXX
//! ```
//!
//! A [`Cluster`] is such a node whose pods come from an API server that listens outside;
//! [`Nodes`] are several of them, on one link or on several with a router between.
//!
//! Nothing in it has a route to a real device. When a world is dropped, its pods are
//! deleted, its agent is stopped, and whatever is then left of it (a link, mount,
//! cgroup, pin, file, process) fails the test. Without privilege tests fail; they are
//! never skipped.

mod agent;
mod cluster;
mod commands;
mod image;
mod image_registry;
mod inventory;
mod manifest;
mod member;
mod namespaces;
mod nodes;
mod peer;
mod place;
mod plain_node;
mod plain_pair;
mod tables;
mod view;
mod waiting;
mod world;

pub use commands::Output;
pub use image::{IMAGE, write_image};
pub use image_registry::ImageRegistry;
pub use manifest::{config_map, labelled_pod, object, pod, pod_in};
pub use member::{Cluster, ClusterOptions, condition, container};
pub use namespaces::Namespaces;
pub use nodes::{Families, NodeAt, Nodes, NodesOptions};
pub use peer::{Met, Server, Tap, answer, ask, local_addr, read_greeting, reset};
pub use place::{Place, Statistics};
pub use plain_node::PlainNode;
pub use plain_pair::PlainPair;
pub use tables::{Backend, BackendCounters, Counters, PodCounters, Service, ServicePort, Traffic};
pub use view::{Condition, Container, Detail, Event, Pod};
pub use waiting::{WAIT, wait_for};
pub use world::{Options, Role, World};
