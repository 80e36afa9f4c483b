//! CHECK: is the attachment as ADD left it?

use super::answer::{Answer, Interface};
use super::call::Target;
use super::conf::{Document, mac_of};
use super::failure::{Code, Failure};
use super::place::{Place, attachment, wire};
use super::store::Store;
use super::version::Version;
use crate::name::LinkNames;
use crate::plan::gateway_of;
use crate::{Observed, Wanted};
use ipnet::IpNet;
use orlop_kernel::Mac;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What `prevResult` says of our attachment.
struct Expected<'a> {
    names: LinkNames,
    host: &'a Interface,
    pod: &'a Interface,
    addresses: BTreeSet<IpAddr>,
    /// By our gateways; other plugins' routes are other plugins' business.
    routes: BTreeSet<IpNet>,
}

/// Compares namespaces and leases with `prevResult` and names every difference.
pub(super) fn check(place: &Place, target: &Target, document: &Document) -> Result<(), Failure> {
    document.since(Version::V0_4_0, "CHECK")?;
    let settings = document.settings()?;
    let Some(previous) = document.previous()? else {
        let details = "CHECK compares with the result of ADD: the runtime has to pass it";
        return Err(Failure::new(Code::InvalidConfig, "prevResult is missing", details));
    };
    let netns = place.open(target)?;
    let key = attachment(document, target);
    let store = Store::new(&document.folder, &settings.ranges);
    let leased: BTreeSet<IpAddr> = store.with(|ipam| Ok(ipam.addresses(&key)))?.into_iter().collect();

    let expected =
        Expected::of(&previous, LinkNames::of_attachment(&key)).map_err(|problem| differs(target, &[problem]))?;
    let addresses: Vec<IpAddr> = expected.addresses.iter().copied().collect();
    let wanted = Wanted { names: expected.names.clone(), addresses: addresses.clone(), routes: Vec::new(), mtu: 0 };
    let observed =
        place.network.observe_wire(&wire(&key, &netns, wanted, None)).map_err(|error| Failure::of(&error))?;
    let mut differences = expected.links(&observed);
    differences.extend(expected.addresses_and_routes(&observed));
    differences.extend(expected.leases(&leased, &store.file().display().to_string()));
    differences.extend(place.forwarding_off(&addresses).into_iter().map(|key| format!("/proc/sys/{key} is 0")));
    if differences.is_empty() { Ok(()) } else { Err(differs(target, &differences)) }
}

fn differs(target: &Target, differences: &[String]) -> Failure {
    let Target { container, ifname, .. } = target;
    let message = format!("container {container}, interface {ifname}: {}", differences[0]);
    let more = if differences.len() > 1 { format!("also: {}; ", differences[1..].join("; ")) } else { String::new() };
    Failure::new(Code::Differs, message, format!("{more}call DEL and ADD to repair it"))
}

impl<'a> Expected<'a> {
    fn of(previous: &'a Answer, mut names: LinkNames) -> Result<Self, String> {
        let find = |name: &str, inside: bool| {
            let is = |interface: &Interface| {
                interface.name == name && interface.sandbox.as_ref().is_some_and(|path| !path.is_empty()) == inside
            };
            let at = previous.interfaces.iter().position(is);
            at.ok_or_else(|| {
                format!(
                    "prevResult lists no interface {name} {}",
                    if inside { "in the container" } else { "on the node" }
                )
            })
        };
        let (host, pod) = (find(&names.host, false)?, find(&names.pod, true)?);
        let mac = |at: usize| previous.interfaces[at].mac.as_deref().and_then(mac_of).map(Mac);
        names.host_mac = mac(host).unwrap_or(names.host_mac);
        names.pod_mac = mac(pod).unwrap_or(names.pod_mac);
        let here = |at: Option<i64>| at.is_some_and(|at| usize::try_from(at) == Ok(pod));
        let addresses = previous.ips.iter().filter(|ip| here(ip.interface)).map(|ip| ip.address.addr()).collect();
        let ours = previous.routes.iter().filter(|route| route.gw == Some(gateway_of(route.dst.addr())));
        Ok(Self {
            routes: ours.map(|route| route.dst).collect(),
            host: &previous.interfaces[host],
            pod: &previous.interfaces[pod],
            names,
            addresses,
        })
    }

    fn links(&self, observed: &Observed) -> Vec<String> {
        let mut found = Vec::new();
        let mut end = |name: &str, seen: Option<(Option<Mac>, Mac, u32, bool)>, mtu: Option<u32>, place: &str| {
            let Some((mac, wanted, has_mtu, up)) = seen else {
                found.push(format!("link {name} is not {place}"));
                return;
            };
            if let Some(mac) = mac.filter(|mac| *mac != wanted) {
                found.push(format!("link {name} has the address {mac}, and not {wanted}"));
            }
            if let Some(mtu) = mtu.filter(|mtu| *mtu != has_mtu) {
                found.push(format!("link {name} has the MTU {has_mtu}, and not {mtu}"));
            }
            if !up {
                found.push(format!("link {name} is down"));
            }
        };
        let names = &self.names;
        let host = observed.host.as_ref().map(|host| (host.mac, names.host_mac, host.mtu, host.up));
        let pod = observed.pod.as_ref().map(|pod| (pod.mac, names.pod_mac, pod.mtu, pod.up));
        end(&names.host, host, self.host.mtu, "on the node");
        end(&names.pod, pod, self.pod.mtu, "in the container");
        if host.is_some() && pod.is_some() && !observed.are_paired() {
            found.push(format!("links {} and {} are not the two ends of one veth", names.host, names.pod));
        }
        found
    }

    fn addresses_and_routes(&self, observed: &Observed) -> Vec<String> {
        let mut found = Vec::new();
        // A link that is not there has been told of, and it has taken all of this with it.
        let (Some(host), Some(pod)) = (&observed.host, &observed.pod) else { return found };
        let names = &self.names;
        for ip in &self.addresses {
            if !pod.addresses.contains(ip) {
                found.push(format!("link {} has not the address {ip}", names.pod));
            }
            if !host.routes.contains(ip) {
                found.push(format!("the node has no route to {ip} by {}", names.host));
            }
            if host.neighbours.get(ip) != Some(&names.pod_mac) {
                found.push(format!("the node has no neighbour entry of {ip} at {} on {}", names.pod_mac, names.host));
            }
            let gateway = gateway_of(*ip);
            if pod.neighbours.get(&gateway) != Some(&names.host_mac) {
                found.push(format!("the container has no neighbour entry of {gateway} at {}", names.host_mac));
            }
        }
        let missing = self.routes.iter().filter(|route| !pod.routes.contains(*route));
        found.extend(missing.map(|to| format!("the container has no route to {to} by {}", gateway_of(to.addr()))));
        found
    }

    fn leases(&self, leased: &BTreeSet<IpAddr>, file: &str) -> Vec<String> {
        if leased.is_empty() {
            return vec![format!("no address is leased to it in {file}")];
        }
        let unlisted = leased.difference(&self.addresses);
        unlisted.map(|ip| format!("{ip} is leased to it, and prevResult does not list it")).collect()
    }
}
