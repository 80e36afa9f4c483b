//! One wire: what a pod or an attachment is to have, and the requests that make it.

use crate::name::LinkNames;
use crate::network::{Attached, PodNetwork};
use crate::plan::{Action, Observed, Wanted, gateway_of, plan};
use crate::{CniError, observe};
use orlop_kernel::{Address, KernelError, Neighbour, Netlink, Netns, Request, Route, Sysctl, VethPair, write_sysctls};
use orlop_model::Ifindex;
use std::net::IpAddr;

/// A wire as it is wanted, and where.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// Whose, in words, for errors.
    pub whose: String,
    /// The host side's alias.
    pub alias: String,
    /// The pod side's namespace.
    pub netns: Netns,
    /// Names, addresses and routes.
    pub wanted: Wanted,
}

impl Wire {
    fn host_error(&self, source: KernelError) -> CniError {
        CniError::HostSide { whose: self.whose.clone(), source }
    }

    fn pod_error(&self, source: KernelError) -> CniError {
        let end = format!("{}: {}", self.whose, self.wanted.names.pod).into_boxed_str();
        CniError::PodSide { end, netns: self.netns.id().ino, source }
    }

    fn gone(&self, link: &str) -> CniError {
        CniError::LinkGone { whose: self.whose.clone(), link: link.to_owned() }
    }
}

/// Work on one wire of the node's network.
pub(crate) struct Work<'a> {
    pub network: &'a PodNetwork,
    pub wire: &'a Wire,
}

impl Work<'_> {
    /// Takes the wire from what there is to what is wanted.
    pub(crate) fn attach(&self) -> Result<Attached, CniError> {
        // A pod that is new has no host side, and then there is nothing to look at.
        let host = self.network.netlink().link(&self.names().host).map_err(|error| self.wire.host_error(error))?;
        let observed = if host.is_none() { Observed::default() } else { self.observe()? };
        self.carry_out(&plan(&self.wire.wanted, &observed))
    }

    fn names(&self) -> &LinkNames {
        &self.wire.wanted.names
    }

    pub(crate) fn observe(&self) -> Result<Observed, CniError> {
        let host =
            observe::host_side(&mut self.network.netlink(), self.names()).map_err(|e| self.wire.host_error(e))?;
        let mut observed = Observed { host, ..Observed::default() };
        let mut netlink = Netlink::open_in(&self.wire.netns).map_err(|error| self.wire.pod_error(error))?;
        observe::pod_side(&mut netlink, self.names(), &mut observed).map_err(|error| self.wire.pod_error(error))?;
        Ok(observed)
    }

    /// The pair first; then the pod's side on a thread in its namespace while this one does the host's.
    fn carry_out(&self, actions: &[Action]) -> Result<Attached, CniError> {
        let host = self.make_pair(actions)?;
        let (host_done, pod_done) = std::thread::scope(|scope| {
            let pod = scope.spawn(|| self.wire.netns.run(|| self.pod_actions(actions)));
            let host_done = self.host_actions(actions, host);
            (host_done, pod.join())
        });
        host_done.map_err(|error| self.wire.host_error(error))?;
        let pod = match pod_done {
            Ok(done) => done.and_then(|done| done).map_err(|error| self.wire.pod_error(error))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Attached {
            host,
            host_name: self.names().host.clone(),
            host_mac: self.names().host_mac,
            pod: pod.ok_or_else(|| self.wire.gone(&self.names().pod))?,
            pod_mac: self.names().pod_mac,
        })
    }

    /// Deletes what is in the way and makes the pair, as far as the plan says so.
    fn make_pair(&self, actions: &[Action]) -> Result<Ifindex, CniError> {
        let mut requests = Vec::new();
        for action in actions {
            match action {
                Action::DeleteHostLink(index) => requests.push(Request::delete_link(*index)),
                Action::DeletePodLink(index) => {
                    let outcome = Netlink::open_in(&self.wire.netns)
                        .and_then(|mut netlink| netlink.apply(vec![Request::delete_link(*index)]));
                    outcome.map_err(|error| self.wire.pod_error(error))?;
                }
                Action::CreateVeth => requests.push(Request::create_veth(&VethPair {
                    name: &self.names().host,
                    mac: self.names().host_mac,
                    peer_name: &self.names().pod,
                    peer_mac: self.names().pod_mac,
                    peer_netns: &self.wire.netns,
                    mtu: self.wire.wanted.mtu,
                })),
                _ => {}
            }
        }
        let made = self.network.netlink().apply_then_link(requests, &self.names().host);
        let link =
            made.map_err(|error| self.wire.host_error(error))?.ok_or_else(|| self.wire.gone(&self.names().host))?;
        Ok(link.index)
    }

    fn host_actions(&self, actions: &[Action], link: Ifindex) -> Result<(), KernelError> {
        let name = &self.names().host;
        let mut requests = Vec::new();
        for action in actions {
            match *action {
                Action::RaiseHost => {
                    write_sysctls(self.network.node(), &host_sysctls(name, &self.wire.wanted.addresses))?;
                    requests.push(Request::set_link_alias(name, &self.wire.alias));
                    requests.push(Request::set_link_up(name, true));
                }
                Action::HostNeighbour(ip) => {
                    requests.push(Request::put_neighbour(Neighbour { link, ip, mac: self.names().pod_mac }));
                }
                Action::HostRoute(ip) => requests.push(Request::put_route(Route {
                    destination: (ip, whole(ip)),
                    gateway: None,
                    link,
                    source: self.network.node_ip_like(ip),
                })),
                _ => {}
            }
        }
        self.network.netlink().apply(requests)
    }

    /// Runs inside the pod's namespace.
    fn pod_actions(&self, actions: &[Action]) -> Result<Option<Ifindex>, KernelError> {
        let mut netlink = Netlink::open()?;
        let mut first = Vec::new();
        for action in actions {
            match action {
                Action::RaiseLoopback => first.push(Request::set_link_up("lo", true)),
                Action::RaisePod => {
                    write_sysctls(&self.wire.netns, &pod_sysctls(&self.names().pod, &self.wire.wanted.addresses))?;
                    first.push(Request::set_link_up(&self.names().pod, true));
                }
                _ => {}
            }
        }
        let Some(link) = netlink.apply_then_link(first, &self.names().pod)?.map(|link| link.index) else {
            return Ok(None);
        };
        let requests = actions.iter().filter_map(|action| match *action {
            Action::PodAddress(ip) => Some(Request::put_address(Address { link, ip, prefix: whole(ip) })),
            Action::PodNeighbour(ip) => {
                Some(Request::put_neighbour(Neighbour { link, ip, mac: self.names().host_mac }))
            }
            Action::PodRoute(to) => Some(Request::put_route(Route {
                destination: (to.addr(), to.prefix_len()),
                gateway: Some(gateway_of(to.addr())),
                link,
                source: self.wire.wanted.addresses.iter().copied().find(|ip| ip.is_ipv4() == to.addr().is_ipv4()),
            })),
            _ => None,
        });
        netlink.apply(requests.collect())?;
        Ok(Some(link))
    }
}

const fn whole(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The way back to a pod is its host route, so reverse path filtering has nothing to add and
/// would drop what eBPF redirects. A side without IPv6 addresses speaks no IPv6 at all: no
/// router solicitation, no multicast report, nothing in the counters that no one has sent.
fn host_sysctls(link: &str, addresses: &[IpAddr]) -> Vec<Sysctl> {
    let mut sysctls = vec![Sysctl::ipv4(link, "rp_filter", 0), Sysctl::ipv4(link, "forwarding", 1)];
    if addresses.iter().any(IpAddr::is_ipv6) {
        // addr_gen_mode 1: no link-local address, and so no duplicate detection for one.
        sysctls.extend([("addr_gen_mode", 1), ("accept_ra", 0)].map(|(key, value)| Sysctl::ipv6(link, key, value)));
    } else {
        sysctls.push(Sysctl::ipv6(link, "disable_ipv6", 1));
    }
    sysctls
}

fn pod_sysctls(link: &str, addresses: &[IpAddr]) -> Vec<Sysctl> {
    if addresses.iter().any(IpAddr::is_ipv6) {
        let values = [("disable_ipv6", 0), ("addr_gen_mode", 1), ("accept_ra", 0), ("router_solicitations", 0)];
        values.map(|(key, value)| Sysctl::ipv6(link, key, value)).to_vec()
    } else {
        vec![Sysctl::ipv6(link, "disable_ipv6", 1)]
    }
}
