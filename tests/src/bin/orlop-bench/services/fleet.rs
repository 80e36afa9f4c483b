//! The Services of a run: the same for all contestants.

use super::worlds::{POD_CIDR, PODS};
use crate::rules::{ClusterNet, ServicePort};
use orlop_tests::Role;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where the servers listen.
pub const PORT: u16 = 8080;
/// Services' own port.
const SERVICE_PORT: u16 = 80;
/// The first Service's address; the others follow.
const FIRST_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 1, 0);
/// At most so many Services have a NodePort, around the one in the middle.
const NODE_PORTS_MAX: usize = 1_000;
/// The first NodePort.
const FIRST_NODE_PORT: u16 = 30_000;

/// See the module's text.
pub struct Fleet {
    pub services: Vec<ServicePort>,
    pub net: ClusterNet,
}

impl Fleet {
    /// So many Services, each with the two servers as its endpoints.
    pub fn new(count: usize) -> Self {
        let with_ports = count.min(NODE_PORTS_MAX);
        let first_with = (count - with_ports) / 2;
        let endpoint = |ip: &str| SocketAddrV4::new(ip.parse().expect("a pod's address"), PORT);
        let service = |number: usize| ServicePort {
            namespace: "default".into(),
            name: format!("s{number}"),
            port_name: "http".into(),
            cluster_ip: (u32::from(FIRST_IP) + number as u32).into(),
            port: SERVICE_PORT,
            node_port: number
                .checked_sub(first_with)
                .filter(|at| *at < with_ports)
                .map(|at| FIRST_NODE_PORT + at as u16),
            endpoints: PODS[..2].iter().map(|ip| endpoint(ip)).collect(),
        };
        let net = ClusterNet {
            pod_cidr: POD_CIDR.into(),
            service_cidr: "10.96.0.0/16".into(),
            node_ip: Role::Node.address().parse().expect("the node's address"),
        };
        Self { services: (0..count).map(service).collect(), net }
    }

    /// The Service that is measured: the one in the middle, where a Service of kube-proxy's is on average.
    fn middle(&self) -> &ServicePort {
        &self.services[self.services.len() / 2]
    }

    /// Its address and port.
    pub fn cluster_ip(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.middle().cluster_ip, self.middle().port)
    }

    /// Its NodePort on the node's address.
    pub fn node_port(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.net.node_ip, self.middle().node_port.expect("the middle one has a NodePort"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_service_has_the_middle_node_port() {
        for (count, ip, port) in [
            (1, "10.96.1.0:80", 30_000),
            (1_000, "10.96.2.244:80", 30_500),
            (10_000, "10.96.20.136:80", 30_500),
            (50_000, "10.96.98.168:80", 30_500),
        ] {
            let fleet = Fleet::new(count);
            assert_eq!((fleet.cluster_ip().to_string().as_str(), fleet.node_port().port()), (ip, port), "{count}");
            assert_eq!(fleet.services.iter().filter(|s| s.node_port.is_some()).count(), count.min(1_000));
        }
    }
}
