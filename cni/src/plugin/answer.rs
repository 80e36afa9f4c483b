//! The result of ADD, in the shape of the version that was asked for.

use super::version::Version;
use crate::Attached;
use crate::plan::gateway_of;
use crate::wire::Wire;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// CNI's result document. What a plugin before us put into it and we do not know stays in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    #[serde(default)]
    pub cni_version: String,
    #[serde(default, deserialize_with = "or_none")]
    pub interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "or_none")]
    pub ips: Vec<Ip>,
    #[serde(default, deserialize_with = "or_none")]
    pub routes: Vec<RouteTo>,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An interface of the attachment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Bytes; since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace's path; none on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An address of the attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ip {
    /// `4` or `6`; until 0.4.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub address: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A route of the attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouteTo {
    pub dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Name servers, as the configuration has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dns {
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Vec::is_empty")]
    nameservers: Vec<IpAddr>,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Vec::is_empty")]
    search: Vec<String>,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

/// Go writes an empty list as `null`.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Dns {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Answer {
    /// Adds what `wire` became to the result of the plugins before (`self`, empty for the first).
    pub(crate) fn with(mut self, wire: &Wire, attached: &Attached, sandbox: &str) -> Self {
        let end = |name: &str, mac: String, sandbox: Option<&str>| Interface {
            name: name.to_owned(),
            mac: Some(mac),
            mtu: Some(wire.wanted.mtu),
            sandbox: sandbox.map(str::to_owned),
            rest: Map::new(),
        };
        self.interfaces.push(end(&attached.host_name, attached.host_mac.to_string(), None));
        let inside = i64::try_from(self.interfaces.len()).ok();
        self.interfaces.push(end(&wire.wanted.names.pod, attached.pod_mac.to_string(), Some(sandbox)));
        self.ips.extend(wire.wanted.addresses.iter().map(|&ip| Ip {
            version: Some(if ip.is_ipv4() { "4" } else { "6" }.to_owned()),
            address: IpNet::from(ip),
            gateway: Some(gateway_of(ip)),
            interface: inside,
            rest: Map::new(),
        }));
        self.routes.extend(wire.wanted.routes.iter().map(|&dst| RouteTo {
            dst,
            gw: Some(gateway_of(dst.addr())),
            rest: Map::new(),
        }));
        self
    }

    /// In the shape of `version`.
    pub(crate) fn document(mut self, version: Version) -> String {
        version.text().clone_into(&mut self.cni_version);
        if version < Version::V1_1_0 {
            self.interfaces.iter_mut().for_each(|interface| interface.mtu = None);
        }
        if version >= Version::V1_0_0 {
            self.ips.iter_mut().for_each(|ip| ip.version = None);
        }
        // No map here has keys other than texts, so this cannot fail.
        serde_json::to_string(&self).unwrap_or_default()
    }
}
