//! What a load balancer is told about this node.

use super::Compiler;
use crate::owner::OwnerName;
use crate::{Input, IpFamily};
use orlop_model::ServiceKey;
use std::collections::BTreeSet;

/// What the compiler keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Health {
    port: u16,
    /// Local ready endpoints; `None` for a family that the Service does not have.
    ipv4: Option<u32>,
    ipv6: Option<u32>,
}

/// A Service's `healthCheckNodePort`, on which a load balancer asks whether this node
/// has local endpoints (`externalTrafficPolicy: Local`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck<'a> {
    /// The Service.
    pub service: &'a ServiceKey,
    /// The port, TCP.
    pub port: u16,
    /// Local ready endpoints that an IPv4 client is told of; `None` when the Service
    /// is not IPv4: then nobody listens there. Terminating ones do not count, also
    /// while they are used for want of others.
    pub ipv4: Option<u32>,
    /// The same for IPv6.
    pub ipv6: Option<u32>,
}

impl Health {
    /// As kube-proxy counts: addresses, not address and port (pkg/proxy
    /// `LocalReadyEndpoints`).
    pub(super) fn of(input: &Input) -> Option<Self> {
        let service = &input.service;
        let port = service.health_check_node_port().filter(|_| service.is_served())?;
        let count = |family: IpFamily| {
            let served = service.cluster_ips.iter().any(|ip| IpFamily::of(*ip) == family);
            let ready = input.endpoints.iter().filter(|one| one.local && one.ready && !one.ports.is_empty());
            let own: BTreeSet<_> = ready.map(|one| one.addr).filter(|addr| IpFamily::of(*addr) == family).collect();
            served.then(|| u32::try_from(own.len()).unwrap_or(u32::MAX))
        };
        Some(Self { port, ipv4: count(IpFamily::IPv4), ipv6: count(IpFamily::IPv6) })
    }
}

impl Compiler {
    /// All health checks, in no order. Two Services may name one port; the first
    /// listener has it.
    pub fn health_checks(&self) -> impl Iterator<Item = HealthCheck<'_>> {
        self.entries.iter().filter_map(|(_, entry)| {
            let health = entry.health.as_deref()?;
            Some(health.named(entry.owner.service()?))
        })
    }

    /// A Service's health check; `None` when it has none. Cheap: ask for each Service
    /// that was set or removed.
    #[must_use]
    pub fn health_check(&self, key: &ServiceKey) -> Option<HealthCheck<'_>> {
        let entry = self.entries.get(self.entries.find(OwnerName::Service(key))?)?;
        Some(entry.health.as_deref()?.named(entry.owner.service()?))
    }
}

impl Health {
    fn named<'a>(&self, service: &'a ServiceKey) -> HealthCheck<'a> {
        HealthCheck { service, port: self.port, ipv4: self.ipv4, ipv6: self.ipv6 }
    }
}
