//! A node of a cluster and where it is.

use serde_json::Value;

/// Which addresses nodes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
    /// Both, IPv4 first.
    Dual,
}

impl Families {
    pub(super) fn pick(self, v4: String, v6: String) -> Vec<String> {
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Dual => vec![v4, v6],
        }
    }
}

/// A node and where it is.
#[derive(Debug, Clone)]
pub struct NodeAt {
    pub(super) number: u8,
    pub(super) segment: u8,
    pub(super) underlay: Families,
    pods: Families,
    pub(super) mtu: u32,
    pub(super) config: String,
    pub(super) object: Value,
}

impl NodeAt {
    /// The node `nN` on segment 0, with IPv4 for itself and its pods. From 1 to 200.
    #[must_use]
    pub fn number(number: u8) -> Self {
        Self {
            number,
            segment: 0,
            underlay: Families::V4,
            pods: Families::V4,
            mtu: 1500,
            config: String::new(),
            object: Value::Null,
        }
    }

    /// On another segment, from 0 to 8.
    #[must_use]
    pub fn on_segment(self, segment: u8) -> Self {
        Self { segment, ..self }
    }

    /// Families of the node's own addresses and of its pods'.
    #[must_use]
    pub fn families(self, underlay: Families, pods: Families) -> Self {
        Self { underlay, pods, ..self }
    }

    /// Bytes of its uplink's MTU.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    /// Keys of the configuration file, as lines of YAML.
    #[must_use]
    pub fn config(self, config: &str) -> Self {
        Self { config: config.to_owned(), ..self }
    }

    /// What its Node object has besides, for example labels of its zone.
    #[must_use]
    pub fn object(self, object: Value) -> Self {
        Self { object, ..self }
    }

    /// `nN`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    /// Its addresses, primary first.
    #[must_use]
    pub fn ips(&self) -> Vec<String> {
        self.underlay.pick(v4(self.segment, self.number), v6(self.segment, u16::from(self.number)))
    }

    /// Ranges of its pods.
    #[must_use]
    pub fn pod_cidrs(&self) -> Vec<String> {
        self.pods.pick(format!("10.244.{}.0/24", self.number), format!("fd24:{}::/112", self.number))
    }
}

/// IPv4 address of a host on a segment.
pub(super) fn v4(segment: u8, host: u8) -> String {
    format!("10.99.{segment}.{host}")
}

/// IPv6 address of a host on a segment.
pub(super) fn v6(segment: u8, host: u16) -> String {
    format!("fd99:{segment}::{host}")
}
