//! Kernel identities of the network.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

/// An interface index, meaningful only inside one network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ifindex(pub NonZeroU32);

impl Ifindex {
    /// `None` for 0, which the kernel never gives out.
    #[must_use]
    pub fn new(index: u32) -> Option<Self> {
        NonZeroU32::new(index).map(Self)
    }
    /// The number itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Ifindex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "if{}", self.0)
    }
}

/// A network namespace: its nsfs device and inode, as `stat(2)` of
/// `/proc/PID/ns/net` gives them. A path or descriptor only leads to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsId {
    /// `st_dev` of nsfs.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// A transport protocol that a Service or a container port can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// IPPROTO_TCP, 6. What Kubernetes means when nothing is said.
    #[default]
    Tcp,
    /// IPPROTO_UDP, 17.
    Udp,
    /// IPPROTO_SCTP, 132.
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}
