//! Addresses and node ports for Services that have none, in standalone mode.
//!
//! The choice is a hash of the Service's name, then the next free one: most
//! Services get the same again even when nothing was remembered, and
//! [`Assignment`] makes it certain.

use crate::{IpFamily, IpFamilyPolicy, LbError, Service, ServiceType};
use orlop_model::{Protocol, ServiceKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// First and last node port, as the API server's default `--service-node-port-range`.
const NODE_PORT_MIN: u16 = 30_000;
const NODE_PORT_MAX: u16 = 32_767;
/// Addresses tried for one Service before it is told that all are taken.
const PROBES_MAX: u128 = 1 << 20;

/// A service network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceCidr {
    base: IpAddr,
    prefix: u8,
}

impl FromStr for ServiceCidr {
    type Err = LbError;

    /// `10.96.0.0/16`, `fd00:96::/112`; bits after the prefix must be zero.
    fn from_str(text: &str) -> Result<Self, LbError> {
        let error = |problem| LbError::Cidr { text: text.to_owned(), problem };
        let (ip, prefix) = text.split_once('/').ok_or_else(|| error("has no prefix length"))?;
        let base: IpAddr = ip.parse().map_err(|_| error("does not start with an IP address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| error("has a prefix length that is not a number"))?;
        let bits = width(base);
        if prefix > bits {
            return Err(error("has too long a prefix"));
        }
        if bits - prefix < 2 {
            return Err(error("has no room for addresses: use a shorter prefix"));
        }
        let cidr = Self { base, prefix };
        if number(base) & (cidr.size() - 1) != 0 {
            return Err(error("has bits set after its prefix"));
        }
        Ok(cidr)
    }
}

impl fmt::Display for ServiceCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl ServiceCidr {
    /// Addresses in it; 2^127 stands for more.
    fn size(&self) -> u128 {
        1 << (width(self.base) - self.prefix).min(127)
    }

    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.base)
    }

    /// Whether an address is one of its own.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        width(ip) == width(self.base) && number(ip) & !(self.size() - 1) == number(self.base)
    }

    fn address(&self, offset: u128) -> IpAddr {
        let bits = number(self.base) | offset;
        match self.base {
            // In range: the offset is below the size of a network of 32 bits.
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        }
    }

    /// Offsets to try, from a hash on. Left out: the network's own address, the
    /// first (the API server's `kubernetes` Service) and the last (IPv4 broadcast).
    fn probe(&self, hash: u64) -> impl Iterator<Item = IpAddr> + use<> {
        let (cidr, room) = (*self, self.size() - 3);
        let start = u128::from(hash) % room;
        (0..room.min(PROBES_MAX)).map(move |step| cidr.address(2 + (start + step) % room))
    }
}

/// Who has which address and node port: remembered by the caller, given back at
/// the next call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// By `namespace/name`.
    pub services: BTreeMap<String, Assigned>,
}

/// What one Service has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Addresses, primary first.
    pub cluster_ips: Vec<IpAddr>,
    /// Node port by `port/protocol`, for example `80/TCP`.
    pub node_ports: BTreeMap<String, u16>,
    /// `spec.healthCheckNodePort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
}

/// Gives every Service that wants them an address of each family and node ports.
/// What a Service asks for itself comes first (the older Service first, then by
/// name), then what `present` remembers, then what is free. `present` becomes what
/// now holds.
///
/// Returns the Services that can be served, in the order given, and why others
/// cannot.
pub fn assign(services: Vec<Service>, cidrs: &[ServiceCidr], present: &mut Assignment) -> (Vec<Service>, Vec<LbError>) {
    let mut services = services;
    let mut order: Vec<usize> = (0..services.len()).collect();
    order.sort_by_key(|&n| services[n].rank());
    let mut ledger = Ledger { cidrs, ips: BTreeMap::new(), node_ports: BTreeMap::new() };
    let mut errors: Vec<Option<LbError>> = vec![None; services.len()];
    for stage in [Ledger::explicit, Ledger::remembered, Ledger::fresh] {
        for &n in &order {
            if errors[n].is_some() {
                continue;
            }
            let remembered = present.services.get(&services[n].key.to_string());
            if let Err(error) = stage(&mut ledger, &mut services[n], remembered) {
                ledger.release(&services[n].key);
                errors[n] = Some(error);
            }
        }
    }
    let good = services.into_iter().zip(&errors).filter(|(_, error)| error.is_none());
    let good: Vec<Service> = good.map(|(service, _)| service).collect();
    present.services =
        good.iter().filter(|one| one.wants_cluster_ip()).map(|one| (one.key.to_string(), held(one))).collect();
    (good, errors.into_iter().flatten().collect())
}

fn held(service: &Service) -> Assigned {
    let ports = service.ports.iter();
    Assigned {
        cluster_ips: service.cluster_ips.clone(),
        node_ports: ports.filter_map(|port| Some((port_key(port.port, port.protocol), port.node_port?))).collect(),
        health_check_node_port: service.health_check_node_port(),
    }
}

fn port_key(port: u16, protocol: Protocol) -> String {
    format!("{port}/{protocol}")
}

/// Whether ports without a node port are to get one.
fn gets_node_ports(service: &Service) -> bool {
    service.wants_node_ports() && !service.more().no_node_ports
}

/// Whether it is to get a health check node port and has none.
fn lacks_health_check(service: &Service) -> bool {
    service.kind == ServiceType::LoadBalancer && service.external_local() && service.health_check_node_port().is_none()
}

/// What is taken, and by whom.
struct Ledger<'a> {
    cidrs: &'a [ServiceCidr],
    ips: BTreeMap<IpAddr, ServiceKey>,
    node_ports: BTreeMap<(u16, Protocol), ServiceKey>,
}

impl Ledger<'_> {
    fn release(&mut self, service: &ServiceKey) {
        self.ips.retain(|_, owner| owner != service);
        self.node_ports.retain(|_, owner| owner != service);
    }

    /// What the Service asks for itself.
    fn explicit(&mut self, service: &mut Service, _: Option<&Assigned>) -> Result<(), LbError> {
        let key = &service.key;
        for &ip in &service.cluster_ips {
            if !self.cidrs.iter().any(|cidr| cidr.contains(ip)) {
                let cidrs = self.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(LbError::ClusterIpOutside { service: key.clone(), ip, cidrs });
            }
            if let Some(owner) = self.ips.get(&ip) {
                return Err(LbError::ClusterIpTaken { service: key.clone(), ip, owner: owner.clone() });
            }
            self.ips.insert(ip, key.clone());
        }
        if !service.wants_node_ports() {
            return Ok(());
        }
        let asked = service.ports.iter().filter_map(|port| Some((port.node_port?, port.protocol)));
        // The agent listens there.
        let health_check = service.health_check_node_port().map(|port| (port, Protocol::Tcp));
        for (port, protocol) in asked.chain(health_check) {
            if !(NODE_PORT_MIN..=NODE_PORT_MAX).contains(&port) {
                return Err(LbError::NodePortOutside { service: key.clone(), port });
            }
            if let Some(owner) = self.node_ports.get(&(port, protocol)) {
                let (service, owner) = (key.clone(), owner.clone());
                return Err(LbError::NodePortTaken { service, port, protocol, owner });
            }
            self.node_ports.insert((port, protocol), key.clone());
        }
        Ok(())
    }

    /// What it had before, where that is still free.
    fn remembered(&mut self, service: &mut Service, had: Option<&Assigned>) -> Result<(), LbError> {
        let Some(had) = had else { return Ok(()) };
        for family in self.missing(service)? {
            let again = had.cluster_ips.iter().find(|ip| IpFamily::of(**ip) == family);
            if let Some(&ip) = again.filter(|ip| self.free(**ip)) {
                self.take(service, ip);
            }
        }
        if gets_node_ports(service) {
            for port in service.ports.iter_mut().filter(|port| port.node_port.is_none()) {
                let again = had.node_ports.get(&port_key(port.port, port.protocol)).copied();
                if let Some(node) = again.filter(|node| self.fits(*node, port.protocol)) {
                    self.node_ports.insert((node, port.protocol), service.key.clone());
                    port.node_port = Some(node);
                }
            }
        }
        let again = had.health_check_node_port.filter(|node| self.fits(*node, Protocol::Tcp));
        if let (true, Some(node)) = (lacks_health_check(service), again) {
            self.take_health_check(service, node);
        }
        Ok(())
    }

    /// What is free.
    fn fresh(&mut self, service: &mut Service, _: Option<&Assigned>) -> Result<(), LbError> {
        for family in self.missing(service)? {
            let hash = hash(&format!("{} {family}", service.key));
            let mut candidates =
                self.cidrs.iter().filter(|cidr| cidr.family() == family).flat_map(|cidr| cidr.probe(hash));
            let free = candidates.find(|ip| !self.ips.contains_key(ip));
            let exhausted = || LbError::Exhausted { service: service.key.clone(), what: "cluster IP" };
            let ip = free.ok_or_else(exhausted)?;
            self.take(service, ip);
        }
        if gets_node_ports(service) {
            for port in service.ports.iter_mut().filter(|port| port.node_port.is_none()) {
                let what = port_key(port.port, port.protocol);
                let node = self.free_node_port(&service.key, &what, port.protocol)?;
                self.node_ports.insert((node, port.protocol), service.key.clone());
                port.node_port = Some(node);
            }
        }
        if lacks_health_check(service) {
            let node = self.free_node_port(&service.key, "health check", Protocol::Tcp)?;
            self.take_health_check(service, node);
        }
        // Primary first: in the order of the families asked for.
        if let Some(first) = self.wanted(service)?.first() {
            service.cluster_ips.sort_by_key(|ip| IpFamily::of(*ip) != *first);
        }
        Ok(())
    }

    fn fits(&self, node_port: u16, protocol: Protocol) -> bool {
        let range = NODE_PORT_MIN..=NODE_PORT_MAX;
        range.contains(&node_port) && !self.node_ports.contains_key(&(node_port, protocol))
    }

    fn free_node_port(&self, service: &ServiceKey, what: &str, protocol: Protocol) -> Result<u16, LbError> {
        let room = u64::from(NODE_PORT_MAX - NODE_PORT_MIN) + 1;
        let start = hash(&format!("{service} {what}"));
        let mut candidates = (0..room).map(|step| NODE_PORT_MIN + ((start % room + step) % room) as u16);
        let free = candidates.find(|node| self.fits(*node, protocol));
        free.ok_or_else(|| LbError::Exhausted { service: service.clone(), what: "node port" })
    }

    fn take_health_check(&mut self, service: &mut Service, node_port: u16) {
        self.node_ports.insert((node_port, Protocol::Tcp), service.key.clone());
        service.more.get_or_insert_default().health_check_node_port = Some(node_port);
    }

    fn free(&self, ip: IpAddr) -> bool {
        !self.ips.contains_key(&ip) && self.cidrs.iter().any(|cidr| cidr.contains(ip))
    }

    fn take(&mut self, service: &mut Service, ip: IpAddr) {
        self.ips.insert(ip, service.key.clone());
        service.cluster_ips.push(ip);
    }

    fn missing(&self, service: &Service) -> Result<Vec<IpFamily>, LbError> {
        let mut wanted = self.wanted(service)?;
        wanted.retain(|family| !service.cluster_ips.iter().any(|ip| IpFamily::of(*ip) == *family));
        Ok(wanted)
    }

    /// The families of which the Service is to have an address, primary first.
    fn wanted(&self, service: &Service) -> Result<Vec<IpFamily>, LbError> {
        if !service.wants_cluster_ip() {
            return Ok(Vec::new());
        }
        let mut offered: Vec<IpFamily> = Vec::new();
        for family in self.cidrs.iter().map(ServiceCidr::family) {
            if !offered.contains(&family) {
                offered.push(family);
            }
        }
        let mut wanted = service.families.clone();
        wanted.extend(service.cluster_ips.iter().map(|ip| IpFamily::of(*ip)));
        if wanted.is_empty() {
            wanted.extend(offered.first().copied());
        }
        match service.family_policy {
            None | Some(IpFamilyPolicy::SingleStack) => {}
            Some(IpFamilyPolicy::PreferDualStack) => wanted.extend(&offered),
            Some(IpFamilyPolicy::RequireDualStack) => wanted.extend([IpFamily::IPv4, IpFamily::IPv6]),
        }
        let mut unique: Vec<IpFamily> = Vec::new();
        for family in wanted {
            if !unique.contains(&family) {
                unique.push(family);
            }
        }
        if service.family_policy == Some(IpFamilyPolicy::PreferDualStack) {
            unique.retain(|family| offered.contains(family));
        }
        match unique.iter().find(|family| !offered.contains(family)) {
            Some(&family) => Err(LbError::NoSuchFamily { service: service.key.clone(), family }),
            None if unique.is_empty() => Err(LbError::Exhausted { service: service.key.clone(), what: "cluster IP" }),
            None => Ok(unique),
        }
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
