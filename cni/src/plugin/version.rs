//! The versions of the protocol, and what differs between them.

use super::failure::{Code, Failure};

/// A version of the CNI specification that the plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Addresses refer to interfaces.
    V0_3_0,
    /// As 0.3.0.
    V0_3_1,
    /// Brought CHECK.
    V0_4_0,
    /// Addresses no longer say their family.
    V1_0_0,
    /// Brought GC, STATUS and the MTU of interfaces.
    V1_1_0,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads a configuration's `cniVersion`.
    ///
    /// # Errors
    /// It is none of [`Version::ALL`].
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::ALL.into_iter().find(|version| version.text() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::text).join(", ");
            let details = format!("orlop-cni speaks {known}: set cniVersion to one of them");
            Failure::new(Code::IncompatibleVersion, format!("cniVersion {text:?} is not supported"), details)
        })
    }
}
