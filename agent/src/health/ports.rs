//! `healthCheckNodePort`: a load balancer asks each node whether it has endpoints of a Service
//! with `externalTrafficPolicy: Local`.

use super::answer;
use super::http::{self, Families, Listening};
use crate::events::{About, EventLog};
use crate::node::Node;
use crate::nodes::NodesView;
use ipnet::IpNet;
use jiff::Timestamp;
use orlop_config::NodePortAddresses;
use orlop_lb::IpFamily;
use orlop_model::{EventKind, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A port that could not be opened is tried again so much later.
const RETRY: Duration = Duration::from_secs(5);

/// What a Service's health check says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// Ready endpoints on this node, for each family that the Service has.
    pub local: BTreeMap<IpFamily, u32>,
}

/// By Service.
pub(crate) type HealthChecks = BTreeMap<ServiceKey, HealthCheck>;

/// One check of a Service, for one family on one address.
type Place = (ServiceKey, SocketAddr);

/// What listens, with the number that it tells.
#[derive(Debug, Default)]
struct Ports(BTreeMap<Place, (Arc<AtomicU32>, Listening)>);

/// Opens and closes ports as Services and the node's addresses change, for ever.
pub(crate) async fn follow(node: Arc<Node>) {
    let (mut wanted, mut addresses) = (node.services.health_checks(), node.nodes.view());
    let (mut ports, mut failed) = (Ports::default(), BTreeSet::new());
    loop {
        let checks = Arc::clone(&wanted.borrow_and_update());
        let own = own(&addresses.borrow_and_update());
        let said = &node.config.services.node_port_addresses;
        let places = places(&checks, &own, said, &node.config.node_ips);
        let errors = ports.reconcile(&node, &checks, &places);
        tell(&node, &errors, &mut failed);
        let again = async {
            match errors.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            changed = addresses.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// Addresses of the node, those that only it reaches among them.
fn own(view: &NodesView) -> BTreeSet<IpAddr> {
    let uplinks = view.uplinks.iter().flat_map(|link| &link.addresses).map(IpNet::addr);
    // A link-local address means something only together with its link.
    let elsewhere = uplinks.filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    elsewhere.chain([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]).collect()
}

/// Where each Service's check is to answer. Pure.
fn places(
    checks: &HealthChecks,
    own: &BTreeSet<IpAddr>,
    said: &NodePortAddresses,
    primary: &[IpAddr],
) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for (key, check) in checks {
        for family in check.local.keys() {
            let ipv4 = *family == IpFamily::IPv4;
            let ips: Vec<IpAddr> = match said.is_all(ipv4) {
                true => vec![family.unspecified()],
                false => own
                    .iter()
                    .copied()
                    .filter(|ip| ip.is_ipv4() == ipv4 && said.serve(*ip, primary.contains(ip)))
                    .collect(),
            };
            places.extend(ips.into_iter().map(|ip| (key.clone(), SocketAddr::new(ip, check.port))));
        }
    }
    places
}

impl Ports {
    /// Makes what listens be `places`, with the numbers of `checks`; gives what could not be opened.
    fn reconcile(
        &mut self,
        node: &Arc<Node>,
        checks: &HealthChecks,
        places: &BTreeSet<Place>,
    ) -> BTreeMap<Place, io::Error> {
        // Closed first: another Service may want the port now.
        self.0.retain(|place, _| places.contains(place));
        let mut errors = BTreeMap::new();
        for place in places {
            let (key, address) = place;
            let counts = checks.get(key).map(|check| &check.local);
            let local = counts.and_then(|local| local.get(&IpFamily::of(address.ip()))).copied().unwrap_or(0);
            match self.0.get(place) {
                Some((count, _)) => count.store(local, Ordering::Relaxed),
                None => match start(node, place, local) {
                    Ok(open) => drop(self.0.insert(place.clone(), open)),
                    Err(error) => drop(errors.insert(place.clone(), error)),
                },
            }
        }
        errors
    }
}

fn start(node: &Arc<Node>, (key, address): &Place, local: u32) -> io::Result<(Arc<AtomicU32>, Listening)> {
    let listener = http::bind(*address, Families::Own)?;
    let count = Arc::new(AtomicU32::new(local));
    let (node, key, local) = (Arc::clone(node), key.clone(), Arc::clone(&count));
    let listening = http::serve(listener, move |_| {
        let healthy = node.services.table_health().healthy(Timestamp::now());
        answer::service(&key, local.load(Ordering::Relaxed), healthy)
    });
    Ok((count, listening))
}

/// Tells of each port that cannot be opened, once until it could be.
fn tell(node: &Node, errors: &BTreeMap<Place, io::Error>, told: &mut BTreeSet<Place>) {
    told.retain(|place| errors.contains_key(place));
    for (place, error) in errors {
        if told.insert(place.clone()) {
            failed(&node.events, &node.config.node_name, place, error);
        }
    }
}

fn failed(events: &EventLog, node: &str, (key, address): &Place, error: &io::Error) {
    let port = address.port();
    let message = format!(
        "node {node} failed to start healthcheck \"{key}\" on port {port}: listen {address}: {error}; it is tried \
         again until who has the port gives it back"
    );
    events.tell(&About::service(key), EventKind::Warning, "FailedToStartServiceHealthcheck", message);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a dual-stack Service's check answers, on a node with these addresses.
    #[track_caller]
    fn check(said: &[&str], want: &str) {
        let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
        let own = ["127.0.0.1", "192.0.2.1", "198.51.100.1", "2001:db8::1"].iter().map(parse).collect();
        let local = BTreeMap::from([(IpFamily::IPv4, 1), (IpFamily::IPv6, 2)]);
        let checks = BTreeMap::from([(ServiceKey::new("a", "b").unwrap(), HealthCheck { port: 30_000, local })]);
        let said = NodePortAddresses::parse(said).unwrap();
        let primary: Vec<IpAddr> = ["192.0.2.1"].iter().map(parse).collect();
        let places = places(&checks, &own, &said, &primary);
        let texts: Vec<String> = places.iter().map(|(_, address)| address.to_string()).collect();
        assert_eq!(texts.join(" "), want);
    }

    #[test]
    fn checks_answer_where_node_ports_do() {
        check(&[], "0.0.0.0:30000 [::]:30000");
        check(&["primary"], "192.0.2.1:30000");
        check(&["198.51.100.0/24"], "198.51.100.1:30000 [::]:30000");
        check(&["127.0.0.0/8", "2001:db8::/32"], "127.0.0.1:30000 [2001:db8::1]:30000");
        check(&["203.0.113.0/24", "fd00::/8"], "");
    }
}
