//! A Service as Kubernetes writes it. Every field of the API is named here, so that
//! what `serde_ignored` reports is unknown; what is known but not acted on becomes
//! a warning in [`ServiceManifest::validate`](crate::ServiceManifest::validate).

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// A Service document, not yet checked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceManifest {
    pub(crate) api_version: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "annotations")]
    _annotations: Known,
    #[serde(rename = "uid")]
    _uid: Known,
    #[serde(rename = "resourceVersion")]
    _resource_version: Known,
    #[serde(rename = "generation")]
    _generation: Known,
    #[serde(rename = "finalizers")]
    _finalizers: Known,
    #[serde(rename = "ownerReferences")]
    _owner_references: Known,
    #[serde(rename = "managedFields")]
    _managed_fields: Known,
    #[serde(rename = "deletionTimestamp")]
    _deletion_timestamp: Known,
    #[serde(rename = "deletionGracePeriodSeconds")]
    _deletion_grace: Known,
    #[serde(rename = "generateName")]
    _generate_name: Known,
    #[serde(rename = "selfLink")]
    _self_link: Known,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub ip_families: Option<Vec<String>>,
    pub ip_family_policy: Option<String>,
    pub selector: Option<BTreeMap<String, String>>,
    pub ports: Option<Vec<Port>>,
    pub publish_not_ready_addresses: Option<bool>,
    pub external_name: Option<String>,
    pub session_affinity: Option<String>,
    pub session_affinity_config: Option<SessionAffinityConfig>,
    pub external_traffic_policy: Option<String>,
    pub internal_traffic_policy: Option<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    pub load_balancer_source_ranges: Option<Vec<String>>,
    pub load_balancer_class: Option<String>,
    pub allocate_load_balancer_node_ports: Option<bool>,
    pub health_check_node_port: Option<i64>,
    pub traffic_distribution: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIp>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClientIp {
    pub timeout_seconds: Option<i64>,
}

/// Without a controller that would write it, a manifest may say what addresses the
/// load balancer has.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub load_balancer: Option<Balancer>,
    #[serde(rename = "conditions")]
    _conditions: Known,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Balancer {
    pub ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ingress {
    pub ip: Option<String>,
    pub ip_mode: Option<String>,
    #[serde(rename = "hostname")]
    _hostname: Known,
    #[serde(rename = "ports")]
    _ports: Known,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
    pub target_port: Option<IntOrString>,
    pub node_port: Option<i64>,
    #[serde(rename = "appProtocol")]
    _app_protocol: Known,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum IntOrString {
    Int(i64),
    String(String),
}

/// A field that the API has and nothing here needs: read to its end, all of it
/// known (`IgnoredAny` would be reported as unknown).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Known;

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Known)
    }
}

impl<'de> Visitor<'de> for Known {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_str<E>(self, _: &str) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_unit<E>(self) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_none<E>(self) -> Result<Known, E> {
        Ok(Known)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Known, D::Error> {
        deserializer.deserialize_any(Known)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Known, A::Error> {
        while seq.next_element::<Known>()?.is_some() {}
        Ok(Known)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Known, A::Error> {
        while map.next_entry::<Known, Known>()?.is_some() {}
        Ok(Known)
    }
}
