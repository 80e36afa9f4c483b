//! Who holds an address and a wire when another runtime asks for them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One attachment of a container to a network, as CNI identifies it. Its text
/// (`NETWORK/CONTAINER/INTERFACE`) is unambiguous: none of the three may hold a `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container, self.ifname)
    }
}
