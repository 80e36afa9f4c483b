//! Names and addresses that follow from a pod's UID or an attachment's key, so that a
//! restarted agent finds everything again and a repeated attach makes the same.

use crate::Attachment;
use orlop_kernel::Mac;
use orlop_model::PodUid;
use sha2::{Digest, Sha256};

/// Name of the pod's end of its veth.
pub const POD_LINK: &str = "eth0";
/// Start of the host side's name: interface rules (`orl+`) can match it.
const HOST_PREFIX: &str = "orl";
/// The same for attachments of other runtimes, so that an agent of this node never
/// takes one for a pod that it has forgotten.
const ATTACHMENT_PREFIX: &str = "orc";

/// What a pod's links are called and addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkNames {
    /// `orl` and 11 hexadecimal digits (44 bits) of the SHA-256 of the UID: 14 of the
    /// 15 bytes that IFNAMSIZ allows.
    pub host: String,
    /// The pod side's: `eth0`, or what the runtime asked for.
    pub pod: String,
    /// Host side's address, locally administered.
    pub host_mac: Mac,
    /// Pod side's address, locally administered.
    pub pod_mac: Mac,
}

impl LinkNames {
    /// The names of a pod.
    #[must_use]
    pub fn of(uid: &PodUid) -> Self {
        Self::from_key(HOST_PREFIX, uid.as_str(), POD_LINK)
    }

    /// The names of an attachment: as a pod's, with `orc` instead of `orl`.
    #[must_use]
    pub fn of_attachment(attachment: &Attachment) -> Self {
        Self::from_key(ATTACHMENT_PREFIX, &attachment.to_string(), &attachment.ifname)
    }

    fn from_key(prefix: &str, key: &str, pod: &str) -> Self {
        let hash = Sha256::digest(key.as_bytes());
        let hex: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self {
            host: format!("{prefix}{}", &hex[..11]),
            pod: pod.to_owned(),
            host_mac: mac(&hash[8..14]),
            pod_mac: mac(&hash[16..22]),
        }
    }

    /// Whether a link's name has the shape of a host side.
    #[must_use]
    pub fn is_host_side(name: &str) -> bool {
        has_shape(HOST_PREFIX, name)
    }

    /// Whether a link's name has the shape of an attachment's host side.
    #[must_use]
    pub fn is_attachment(name: &str) -> bool {
        has_shape(ATTACHMENT_PREFIX, name)
    }
}

fn has_shape(prefix: &str, name: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    name.strip_prefix(prefix).is_some_and(|rest| rest.len() == 11 && rest.chars().all(hex))
}

/// IEEE 802: bit 1 of the first byte says locally administered, bit 0 (clear) unicast.
fn mac(bytes: &[u8]) -> Mac {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[..6]);
    mac[0] = (mac[0] & 0xfc) | 0x02;
    Mac(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_valid_and_different() {
        let a = LinkNames::of(&PodUid::new("a").unwrap());
        assert_eq!(a, LinkNames::of(&PodUid::new("a").unwrap()));
        // SHA-256("a") = ca978112ca1bbdcafac231b39a23dc4d…
        assert_eq!(a.host, "orlca978112ca1");
        assert!(LinkNames::is_host_side(&a.host));
        assert_ne!(a.host_mac, a.pod_mac);
        for mac in [a.host_mac, a.pod_mac] {
            assert_eq!(mac.0[0] & 3, 2, "{mac}");
        }
        assert_ne!(a.host, LinkNames::of(&PodUid::new("b").unwrap()).host);
        for other in ["orl", "orlca978112ca1x", "orlca978112caZ", "eth0", "xrlca978112ca1"] {
            assert!(!LinkNames::is_host_side(other), "{other}");
        }
    }
}
