//! Variables that name Services (pkg/kubelet/envvars).

use orlop_model::{Protocol, ServiceKey};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Namespace and name of the Service that every container is told of.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// What variables are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLink {
    /// Namespace and name.
    pub key: ServiceKey,
    /// `None` for a headless Service or one with an external name: it gives no variables.
    pub cluster_ip: Option<IpAddr>,
    /// In order; at least one.
    pub ports: Vec<ServiceLinkPort>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLinkPort {
    /// `None` when it has no name.
    pub name: Option<String>,
    /// Transport.
    pub protocol: Protocol,
    /// Port at the cluster address.
    pub port: u16,
}

/// The variables of a container in `namespace`: for the Services of it when `links`
/// (`enableServiceLinks`) says so, and always for `default/kubernetes`. A Service
/// that came after the container started is not in its environment.
#[must_use]
pub fn service_variables(services: &[ServiceLink], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &ServiceLink> = BTreeMap::new();
    for service in services.iter().filter(|service| service.cluster_ip.is_some()) {
        let (of, name) = (service.key.namespace(), service.key.name());
        if (of, name) == MASTER {
            // The namespace's own Service of that name wins, as in the kubelet.
            chosen.entry(name).or_insert(service);
        } else if links && of == namespace {
            chosen.insert(name, service);
        }
    }
    chosen.into_values().flat_map(variables).collect()
}

fn variables(service: &ServiceLink) -> Vec<(String, String)> {
    let (Some(ip), Some(first)) = (service.cluster_ip, service.ports.first()) else { return Vec::new() };
    let prefix = variable(service.key.name());
    let mut all = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_string()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in &service.ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.push((format!("{prefix}_SERVICE_PORT_{}", variable(name)), port.port.to_string()));
        }
    }
    all.push((format!("{prefix}_PORT"), url(ip, first)));
    for port in &service.ports {
        let one = format!("{prefix}_PORT_{}_{}", port.port, port.protocol);
        all.push((format!("{one}_PROTO"), port.protocol.to_string().to_ascii_lowercase()));
        all.push((format!("{one}_PORT"), port.port.to_string()));
        all.push((format!("{one}_ADDR"), ip.to_string()));
        all.push((one, url(ip, port)));
    }
    all
}

fn url(ip: IpAddr, port: &ServiceLinkPort) -> String {
    let at = std::net::SocketAddr::new(ip, port.port);
    format!("{}://{at}", port.protocol.to_string().to_ascii_lowercase())
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
