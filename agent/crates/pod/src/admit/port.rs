//! Ports of a container, and clashes between them.

use super::name;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::ContainerPort as ApiPort;
use orlop_model::{ContainerPort, Protocol};
use std::collections::HashSet;
use std::net::IpAddr;

/// Host ports taken so far in the pod.
#[derive(Debug, Default)]
pub(super) struct HostPorts(HashSet<(Protocol, Option<IpAddr>, u16)>);

impl HostPorts {
    /// Takes the host ports of one more container. Only main containers run at the
    /// same time; init ones cannot clash.
    pub(super) fn take(&mut self, path: &Path, ports: &[ContainerPort], out: &mut Findings) {
        for (index, port) in ports.iter().enumerate() {
            let Some(number) = port.host_port else { continue };
            if !self.0.insert((port.protocol, port.host_ip, number)) {
                let ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
                out.duplicate(&path.index(index).child("hostPort"), &format!("{}/{ip}/{number}", port.protocol));
            }
        }
    }
}

pub(super) const PORT_RULE: &str = "must be between 1 and 65535, inclusive";

/// The ports of one container; those in error are left out.
pub(super) fn ports(path: &Path, api: &[ApiPort], host_network: bool, out: &mut Findings) -> Vec<ContainerPort> {
    let mut names = HashSet::new();
    let mut ports = Vec::new();
    for (index, port) in api.iter().enumerate() {
        let path = path.index(index);
        if let Some(text) = port.name.as_deref().filter(|n| !n.is_empty()) {
            name::port(&path.child("name"), text, out);
            if !names.insert(text) {
                out.duplicate(&path.child("name"), text);
            }
        }
        ports.extend(one(&path, port, host_network, out));
    }
    ports
}

fn one(path: &Path, api: &ApiPort, host_network: bool, out: &mut Findings) -> Option<ContainerPort> {
    let container_port = match u16::try_from(api.container_port) {
        Ok(0) => {
            out.required(&path.child("containerPort"), "");
            None
        }
        Ok(number) => Some(number),
        Err(_) => {
            out.invalid(&path.child("containerPort"), api.container_port, PORT_RULE);
            None
        }
    };
    let mut host_port = match api.host_port.unwrap_or(0) {
        0 => None,
        number => match u16::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => {
                out.invalid(&path.child("hostPort"), number, PORT_RULE);
                return None;
            }
        },
    };
    if host_network {
        // The API server fills it in (SetDefaults_HostNetworkPorts).
        if host_port.is_some_and(|port| Some(port) != container_port) {
            out.invalid(
                &path.child("hostPort"),
                host_port.unwrap_or(0),
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
        host_port = host_port.or(container_port);
    }
    let protocol = protocol(&path.child("protocol"), api.protocol.as_deref(), out);
    let host_ip = match api.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
        None => None,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(ip) => Some(ip).filter(|ip| !ip.is_unspecified()),
            Err(_) => {
                out.invalid(&path.child("hostIP"), text, IP_RULE);
                return None;
            }
        },
    };
    let name = api.name.clone().filter(|n| !n.is_empty());
    Some(ContainerPort { name, container_port: container_port?, host_port, host_ip, protocol: protocol? })
}

pub(super) const IP_RULE: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

fn protocol(path: &Path, text: Option<&str>, out: &mut Findings) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(other) => {
            out.unsupported(path, other, &["SCTP", "TCP", "UDP"]);
            None
        }
    }
}
