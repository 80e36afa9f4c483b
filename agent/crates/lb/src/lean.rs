//! Objects of which a node sees all that a cluster has, decoded straight into what
//! is needed of them: addresses parsed, names in one piece of text an object,
//! conditions as bits. What else the API says is skipped while it is read.
//!
//! An item that cannot be used (an address that is none) is left out and named in
//! `invalid`; the rest of the object counts.

mod node;
mod service;
mod slice;

pub use node::{LeanNode, NodeAddress};
pub(crate) use service::AFFINITY_S;
pub use service::{LeanService, LeanServicePort, Selector, ServiceVariables};
pub use slice::{AddressType, EndpointFlags, LeanEndpoint, LeanEndpointSlice, LeanSlicePort, Span};

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// Which Service a slice belongs to (discovery.k8s.io/v1).
pub(crate) const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Set on what belongs to a headless Service; kube-proxy does not look at those.
pub(crate) const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Names another proxy that serves this Service.
pub(crate) const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// A part of an object that cannot be used, and why. The rest of the object is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidItem {
    /// Path in the object, for example `endpoints[3].addresses[0]`.
    pub field: String,
    /// The value and what is wrong with it.
    pub problem: String,
}

impl fmt::Display for InvalidItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// What does not fit, collected while an object is decoded. An object whose every
/// item is wrong does not fill the memory with sentences.
#[derive(Default)]
pub(crate) struct Invalid(Vec<InvalidItem>);

const INVALID_ITEMS_MAX: usize = 16;

impl Invalid {
    pub(crate) fn add(&mut self, field: impl FnOnce() -> String, problem: impl Into<String>) {
        if self.0.len() < INVALID_ITEMS_MAX {
            self.0.push(InvalidItem { field: field(), problem: problem.into() });
        }
    }

    pub(crate) fn done(self) -> Box<[InvalidItem]> {
        self.0.into_boxed_slice()
    }

    /// Parses an address, or says which one is none.
    pub(crate) fn ip(&mut self, text: &str, field: impl FnOnce() -> String) -> Option<std::net::IpAddr> {
        match text.parse::<std::net::IpAddr>() {
            Ok(ip) => Some(ip.to_canonical()),
            Err(_) => {
                self.add(field, format!("{text:?} is not an IP address"));
                None
            }
        }
    }
}

/// `metadata` of any of them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawMetadata {
    pub name: String,
    pub namespace: String,
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub labels: Option<BTreeMap<String, String>>,
}

impl RawMetadata {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    pub(crate) fn skipped(&self) -> bool {
        self.label(LABEL_HEADLESS).is_some() || self.label(LABEL_PROXY_NAME).is_some()
    }
}

/// A transport as the API writes it; a missing one is TCP.
pub(crate) fn protocol(text: Option<&str>) -> Option<orlop_model::Protocol> {
    match text {
        None | Some("" | "TCP") => Some(orlop_model::Protocol::Tcp),
        Some("UDP") => Some(orlop_model::Protocol::Udp),
        Some("SCTP") => Some(orlop_model::Protocol::Sctp),
        Some(_) => None,
    }
}
