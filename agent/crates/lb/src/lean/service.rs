//! Services.

use super::{Invalid, InvalidItem, RawMetadata, protocol};
use crate::{
    IpFamily, LoadBalancerIp, PodEndpoint, Service, ServiceMore, ServicePort, ServiceType, TargetPort,
    TrafficDistribution,
};
use ipnet::IpNet;
use jiff::Timestamp;
use orlop_model::{Protocol, ServiceKey};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A Service as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeanService {
    /// Namespace and name.
    pub key: ServiceKey,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Another proxy serves it, or its endpoints are nobody's business: it has a
    /// label that says so.
    pub skipped: bool,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Its addresses, primary first.
    pub cluster_ips: Box<[IpAddr]>,
    /// Its ports.
    pub ports: Box<[LeanServicePort]>,
    /// Labels of its pods.
    pub selector: Selector,
    /// What few Services have.
    pub more: Option<Box<ServiceMore>>,
    /// What was left out.
    pub invalid: Box<[InvalidItem]>,
}

/// One of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeanServicePort {
    /// `""` when it has none.
    pub name: Box<str>,
    /// Transport.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Port on every node.
    pub node_port: Option<u16>,
}

/// Labels that a pod must have, `name=value` joined by commas (neither may hold
/// either sign); empty selects nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Box<str>);

impl Selector {
    fn new(labels: &BTreeMap<String, String>) -> Self {
        Self(labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",").into())
    }

    /// Nothing is selected: the endpoints come from elsewhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels, by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split(',').filter_map(|pair| pair.split_once('='))
    }

    /// Whether a pod with these labels is selected.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.is_empty() && self.labels().all(|(name, value)| labels.get(name).is_some_and(|has| has == value))
    }
}

/// `spec.sessionAffinityConfig` when nothing is said (k8s.io/api/core/v1).
pub(crate) const AFFINITY_S: u32 = 10_800;

/// A Service as the environment variables of pods want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceVariables {
    /// Name.
    pub name: String,
    /// Its primary address.
    pub cluster_ip: IpAddr,
    /// Name, port and transport of each port, in the order of the Service.
    pub ports: Vec<(String, u16, Protocol)>,
}

impl ServiceVariables {
    /// Of a Service; `None` when it has no address or no port.
    #[must_use]
    pub fn of(service: &Service) -> Option<Self> {
        let ports: Vec<_> = service.ports.iter().map(|port| (port.name.clone(), port.port, port.protocol)).collect();
        let cluster_ip = *service.cluster_ips.first()?;
        (!ports.is_empty()).then(|| Self { name: service.key.name().to_owned(), cluster_ip, ports })
    }
}

impl LeanService {
    /// As the compiler takes it. Its endpoints come from slices: target ports are
    /// not looked at.
    #[must_use]
    pub fn service(&self) -> Service {
        let port = |port: &LeanServicePort| ServicePort {
            name: (*port.name).into(),
            protocol: port.protocol,
            port: port.port,
            target_port: TargetPort::Number(port.port),
            node_port: port.node_port,
        };
        Service {
            key: self.key.clone(),
            created: self.created,
            kind: self.kind,
            headless: self.headless,
            cluster_ips: self.cluster_ips.to_vec(),
            families: self.cluster_ips.iter().map(|ip| IpFamily::of(*ip)).collect(),
            family_policy: None,
            selector: self.selector.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            publish_not_ready: self.publish_not_ready,
            ports: self.ports.iter().map(port).collect(),
            external_name: None,
            other_proxy: self.skipped,
            more: self.more.clone(),
        }
    }

    /// Whether the pod is one of its own. Without a selector its endpoints are from
    /// elsewhere.
    #[must_use]
    pub fn selects(&self, pod: &PodEndpoint) -> bool {
        self.key.namespace() == pod.key.namespace() && self.selector.selects(&pod.labels)
    }

    /// Whether it has entries in the tables.
    #[must_use]
    pub fn is_served(&self) -> bool {
        !self.skipped && !self.headless && self.kind != ServiceType::ExternalName && !self.cluster_ips.is_empty()
    }

    /// For the environment; `None` when it has no address or no port.
    #[must_use]
    pub fn variables(&self) -> Option<ServiceVariables> {
        ServiceVariables::of(&self.service())
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ports: Option<Vec<RawPort>>,
    selector: Option<BTreeMap<String, String>>,
    publish_not_ready_addresses: Option<bool>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    load_balancer_source_ranges: Option<Vec<String>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<RawAffinity>,
    external_traffic_policy: Option<String>,
    internal_traffic_policy: Option<String>,
    health_check_node_port: Option<i64>,
    traffic_distribution: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    name: Option<String>,
    protocol: Option<String>,
    port: i64,
    node_port: Option<i64>,
}

#[derive(Deserialize)]
struct RawAffinity {
    #[serde(rename = "clientIP")]
    client_ip: Option<RawTimeout>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTimeout {
    timeout_seconds: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    load_balancer: Option<RawBalancer>,
}

#[derive(Deserialize)]
struct RawBalancer {
    ingress: Option<Vec<RawIngress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIngress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

impl<'de> Deserialize<'de> for LeanService {
    /// Fails only when it has no usable name: such a thing cannot be spoken of.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        let key = ServiceKey::new(&*raw.metadata.namespace, &*raw.metadata.name).map_err(D::Error::custom)?;
        Ok(Self::of(key, raw))
    }
}

impl LeanService {
    fn of(key: ServiceKey, raw: Raw) -> Self {
        let (mut invalid, spec) = (Invalid::default(), raw.spec);
        let kind = match spec.r#type.as_deref() {
            Some("NodePort") => ServiceType::NodePort,
            Some("LoadBalancer") => ServiceType::LoadBalancer,
            Some("ExternalName") => ServiceType::ExternalName,
            _ => ServiceType::ClusterIP,
        };
        let first = spec.cluster_ip.iter().filter(|ip| !ip.is_empty());
        let texts: Vec<&String> = match &spec.cluster_ips {
            Some(all) if !all.is_empty() => all.iter().collect(),
            _ => first.collect(),
        };
        let headless = texts.iter().any(|ip| *ip == "None");
        let texts = if headless || kind == ServiceType::ExternalName { Vec::new() } else { texts };
        let ports = spec.ports.iter().flatten().enumerate();
        Self {
            key,
            created: raw.metadata.creation_timestamp,
            kind,
            headless,
            skipped: raw.metadata.skipped(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            cluster_ips: addresses("spec.clusterIPs", texts.into_iter(), &mut invalid).into(),
            ports: ports.filter_map(|(n, port)| port_of(n, port, &mut invalid)).collect(),
            selector: spec.selector.as_ref().map(Selector::new).unwrap_or_default(),
            more: more(&spec, &raw.status, &mut invalid),
            invalid: invalid.done(),
        }
    }
}

fn addresses<'a>(field: &str, texts: impl Iterator<Item = &'a String>, invalid: &mut Invalid) -> Vec<IpAddr> {
    texts.enumerate().filter_map(|(n, text)| invalid.ip(text, || format!("{field}[{n}]"))).collect()
}

fn port_of(n: usize, raw: &RawPort, invalid: &mut Invalid) -> Option<LeanServicePort> {
    let Some(protocol) = protocol(raw.protocol.as_deref()) else {
        let protocol = raw.protocol.as_deref().unwrap_or_default();
        invalid.add(|| format!("spec.ports[{n}].protocol"), format!("{protocol:?} is not one of TCP, UDP and SCTP"));
        return None;
    };
    let number = |value: i64| u16::try_from(value).ok().filter(|port| *port != 0);
    let Some(port) = number(raw.port) else {
        invalid.add(|| format!("spec.ports[{n}].port"), format!("{} is not between 1 and 65535", raw.port));
        return None;
    };
    let name = raw.name.as_deref().unwrap_or("").into();
    Some(LeanServicePort { name, protocol, port, node_port: raw.node_port.and_then(number) })
}

fn more(spec: &RawSpec, status: &RawStatus, invalid: &mut Invalid) -> Option<Box<ServiceMore>> {
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let ingress = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate();
    let balancer = |(n, one): (usize, &RawIngress)| {
        let ip = invalid.ip(one.ip.as_deref()?, || format!("status.loadBalancer.ingress[{n}].ip"))?;
        Some(LoadBalancerIp { ip, proxy: one.ip_mode.as_deref() == Some("Proxy") })
    };
    let load_balancer_ips = ingress.filter_map(balancer).collect();
    let mut source_ranges = Vec::new();
    for (n, text) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        // The API server lets spaces around them pass.
        match text.trim().parse::<IpNet>() {
            Ok(net) => source_ranges.push(net.trunc()),
            Err(_) => {
                invalid.add(|| format!("spec.loadBalancerSourceRanges[{n}]"), format!("{text:?} is not a CIDR"));
            }
        }
    }
    let timeout = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let more = ServiceMore {
        external_ips: addresses("spec.externalIPs", spec.external_ips.iter().flatten(), invalid),
        load_balancer_ips,
        source_ranges,
        affinity_s: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| timeout.unwrap_or(AFFINITY_S)),
        external_local: local(&spec.external_traffic_policy),
        internal_local: local(&spec.internal_traffic_policy),
        health_check_node_port: spec
            .health_check_node_port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|p| *p != 0),
        distribution: match spec.traffic_distribution.as_deref() {
            Some("PreferClose" | "PreferSameZone") => TrafficDistribution::SameZone,
            Some("PreferSameNode") => TrafficDistribution::SameNode,
            _ => TrafficDistribution::Any,
        },
        // Node ports are given by the API server.
        no_node_ports: false,
    };
    (more != ServiceMore::default()).then(|| Box::new(more))
}
