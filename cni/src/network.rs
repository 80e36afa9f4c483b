//! Putting pods on the wire and taking them off it: the thin half.

use crate::name::{LinkNames, POD_LINK};
use crate::plan::{Action, Observed, Wanted, gateway_of, plan};
use crate::{CniError, observe};
use orlop_kernel::{
    Address, KernelError, Mac, Neighbour, Netlink, Netns, Request, Route, Sysctl, VethPair, read_sysctl, write_sysctls,
};
use orlop_model::{Ifindex, PodUid};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a pod needs to get on the wire.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Whose.
    pub uid: PodUid,
    /// Its network namespace.
    pub netns: Netns,
    /// Its addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
}

/// A pod on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Host side, in the node's namespace.
    pub host: Ifindex,
    /// Its name.
    pub host_name: String,
    /// Its address.
    pub host_mac: Mac,
    /// `eth0`, in the pod's namespace.
    pub pod: Ifindex,
    /// Its address.
    pub pod_mac: Mac,
}

/// A host side found in the node's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Its index.
    pub index: Ifindex,
    /// Its name.
    pub name: String,
    /// The pod, as its alias says; `None` when it was made but never finished.
    pub uid: Option<PodUid>,
}

/// The pod network of one node. Cheap to clone; every clone uses the same socket.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    node: Netns,
    netlink: Arc<Mutex<Netlink>>,
    node_ips: Vec<IpAddr>,
}

impl PodNetwork {
    /// The network of the node whose namespace is `node`: [`Netns::current`] for an agent.
    ///
    /// # Errors
    /// No netlink socket is to be had there.
    pub fn open(node: Netns) -> Result<Self, CniError> {
        let netlink = Netlink::open_in(&node).map_err(node_error("open a netlink socket"))?;
        Ok(Self { node, netlink: Arc::new(Mutex::new(netlink)), node_ips: Vec::new() })
    }

    /// Addresses of the node that its own connections to pods come from, at most one a
    /// family; they must be on one of its links when a pod is attached. Without one the
    /// kernel takes the first address of the first link that has any.
    #[must_use]
    pub fn with_node_ips(self, node_ips: Vec<IpAddr>) -> Self {
        Self { node_ips, ..self }
    }

    /// Turns forwarding on, for IPv6 too, and brings loopback up. Changes the whole namespace:
    /// only for namespaces that the caller owns, or on a machine that is to be a node.
    ///
    /// A link that takes its IPv6 route from router advertisements would lose it with
    /// forwarding on, so its `accept_ra` of 1 becomes 2 (take them although forwarding).
    ///
    /// # Errors
    /// Names the sysctl.
    pub async fn prepare_node(&self) -> Result<(), CniError> {
        let this = self.clone();
        in_thread(move || {
            this.netlink().apply(vec![Request::set_link_up("lo", true)]).map_err(node_error("bring loopback up"))?;
            let links = this.netlink().links().map_err(node_error("list links"))?;
            let mut sysctls = vec![Sysctl::new("net/ipv4/ip_forward", "1")];
            for link in links.iter().filter(|link| !link.loopback && !LinkNames::is_host_side(&link.name)) {
                // Unreadable where the kernel or the link has no IPv6.
                let accepts = read_sysctl(&this.node, &format!("net/ipv6/conf/{}/accept_ra", link.name));
                if accepts.is_ok_and(|value| value == "1") {
                    sysctls.push(Sysctl::ipv6(&link.name, "accept_ra", 2));
                }
            }
            sysctls.push(Sysctl::ipv6("all", "forwarding", 1));
            write_sysctls(&this.node, &sysctls).map_err(node_error("turn forwarding on"))
        })
        .await
    }

    /// Puts a pod on the wire. Doing it again changes nothing, after a crash it
    /// finishes what was begun, and a link of an older sandbox is replaced. One that
    /// fails leaves what it has made: attach again or detach.
    ///
    /// # Errors
    /// Names the pod, the side and the request that the kernel refused.
    pub async fn attach(&self, request: &AttachRequest) -> Result<Attached, CniError> {
        let (this, request) = (self.clone(), request.clone());
        in_thread(move || this.attach_blocking(&request)).await
    }

    /// As [`PodNetwork::attach`], on the calling thread.
    ///
    /// # Errors
    /// The same.
    pub fn attach_blocking(&self, request: &AttachRequest) -> Result<Attached, CniError> {
        let work = Work { network: self, request, names: LinkNames::of(&request.uid) };
        let wanted = Wanted { names: work.names.clone(), addresses: request.addresses.clone(), mtu: request.mtu };
        // A pod that is new has no host side, and then there is nothing to look at.
        let fresh = self.netlink().link(&work.names.host).map_err(|error| work.host_error(error))?.is_none();
        let observed = if fresh { Observed::default() } else { work.observe()? };
        work.carry_out(&plan(&wanted, &observed))
    }

    /// What there is of a pod's network.
    ///
    /// # Errors
    /// A namespace cannot be read.
    pub async fn observe(&self, uid: &PodUid, netns: &Netns) -> Result<Observed, CniError> {
        let request = AttachRequest { uid: uid.clone(), netns: netns.clone(), addresses: Vec::new(), mtu: 0 };
        let this = self.clone();
        in_thread(move || Work { names: LinkNames::of(&request.uid), network: &this, request: &request }.observe())
            .await
    }

    /// Takes a pod off the wire: deletes its veth, and with it addresses, routes and
    /// neighbours of both sides. One that is gone is fine. The kernel takes about 30 ms,
    /// so run it beside what else ends the pod; it uses a socket of its own and holds up no attach.
    ///
    /// # Errors
    /// Names the link.
    pub async fn detach(&self, uid: &PodUid) -> Result<(), CniError> {
        let (this, uid) = (self.clone(), uid.clone());
        in_thread(move || {
            let name = LinkNames::of(&uid).host;
            this.delete(&name).map_err(|source| CniError::HostSide { uid, source })
        })
        .await
    }

    /// Deletes a host side that [`PodNetwork::list`] found and nobody wants.
    ///
    /// # Errors
    /// Names the link.
    pub async fn remove(&self, link: &HostLink) -> Result<(), CniError> {
        let (this, name) = (self.clone(), link.name.clone());
        in_thread(move || this.delete(&name).map_err(node_error("delete a pod's link"))).await
    }

    /// The host sides in the node's namespace.
    ///
    /// # Errors
    /// The links cannot be listed.
    pub async fn list(&self) -> Result<Vec<HostLink>, CniError> {
        let this = self.clone();
        let links = in_thread(move || this.netlink().links().map_err(node_error("list links"))).await?;
        let host_sides = links.into_iter().filter(|link| LinkNames::is_host_side(&link.name));
        Ok(host_sides
            .map(|link| HostLink {
                index: link.index,
                name: link.name,
                uid: link.alias.and_then(|uid| PodUid::new(uid).ok()),
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<(), KernelError> {
        let mut netlink = Netlink::open_in(&self.node)?;
        match netlink.link(name)? {
            Some(link) => netlink.apply(vec![Request::delete_link(link.index)]),
            None => Ok(()),
        }
    }

    fn netlink(&self) -> MutexGuard<'_, Netlink> {
        // A panic elsewhere leaves at most an unread answer, which its sequence number tells apart.
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn node_error(what: &'static str) -> impl Fn(KernelError) -> CniError {
    move |source| CniError::Node { what, source }
}

async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CniError> + Send + 'static,
) -> Result<T, CniError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| CniError::Worker { source })?
}

/// One attach under way.
struct Work<'a> {
    network: &'a PodNetwork,
    request: &'a AttachRequest,
    names: LinkNames,
}

impl Work<'_> {
    fn host_error(&self, source: KernelError) -> CniError {
        CniError::HostSide { uid: self.request.uid.clone(), source }
    }

    fn pod_error(&self, source: KernelError) -> CniError {
        CniError::PodSide { uid: self.request.uid.clone(), netns: self.request.netns.id().ino, source }
    }

    fn gone(&self, link: &str) -> CniError {
        CniError::LinkGone { uid: self.request.uid.clone(), link: link.to_owned() }
    }

    fn observe(&self) -> Result<Observed, CniError> {
        let host = observe::host_side(&mut self.network.netlink(), &self.names).map_err(|e| self.host_error(e))?;
        let mut observed = Observed { host, ..Observed::default() };
        let mut netlink = Netlink::open_in(&self.request.netns).map_err(|error| self.pod_error(error))?;
        observe::pod_side(&mut netlink, &mut observed).map_err(|error| self.pod_error(error))?;
        Ok(observed)
    }

    /// The pair first; then the pod's side on a thread in its namespace while this one does the host's.
    fn carry_out(&self, actions: &[Action]) -> Result<Attached, CniError> {
        let host = self.make_pair(actions)?;
        let (host_done, pod_done) = std::thread::scope(|scope| {
            let pod = scope.spawn(|| self.request.netns.run(|| self.pod_actions(actions)));
            let host_done = self.host_actions(actions, host);
            (host_done, pod.join())
        });
        host_done.map_err(|error| self.host_error(error))?;
        let pod = match pod_done {
            Ok(done) => done.and_then(|done| done).map_err(|error| self.pod_error(error))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Attached {
            host,
            host_name: self.names.host.clone(),
            host_mac: self.names.host_mac,
            pod: pod.ok_or_else(|| self.gone(POD_LINK))?,
            pod_mac: self.names.pod_mac,
        })
    }

    /// Deletes what is in the way and makes the pair, as far as the plan says so.
    fn make_pair(&self, actions: &[Action]) -> Result<Ifindex, CniError> {
        let mut requests = Vec::new();
        for action in actions {
            match action {
                Action::DeleteHostLink(index) => requests.push(Request::delete_link(*index)),
                Action::DeletePodLink(index) => {
                    let outcome = Netlink::open_in(&self.request.netns)
                        .and_then(|mut netlink| netlink.apply(vec![Request::delete_link(*index)]));
                    outcome.map_err(|error| self.pod_error(error))?;
                }
                Action::CreateVeth => requests.push(Request::create_veth(&VethPair {
                    name: &self.names.host,
                    mac: self.names.host_mac,
                    peer_name: POD_LINK,
                    peer_mac: self.names.pod_mac,
                    peer_netns: &self.request.netns,
                    mtu: self.request.mtu,
                })),
                _ => {}
            }
        }
        let made = self.network.netlink().apply_then_link(requests, &self.names.host);
        let link = made.map_err(|error| self.host_error(error))?.ok_or_else(|| self.gone(&self.names.host))?;
        Ok(link.index)
    }

    fn host_actions(&self, actions: &[Action], link: Ifindex) -> Result<(), KernelError> {
        let name = &self.names.host;
        let mut requests = Vec::new();
        for action in actions {
            match *action {
                Action::RaiseHost => {
                    write_sysctls(&self.network.node, &host_sysctls(name, &self.request.addresses))?;
                    requests.push(Request::set_link_alias(name, self.request.uid.as_str()));
                    requests.push(Request::set_link_up(name, true));
                }
                Action::HostNeighbour(ip) => {
                    requests.push(Request::put_neighbour(Neighbour { link, ip, mac: self.names.pod_mac }));
                }
                Action::HostRoute(ip) => requests.push(Request::put_route(Route {
                    destination: (ip, whole(ip)),
                    gateway: None,
                    link,
                    source: self.network.node_ips.iter().copied().find(|node| node.is_ipv4() == ip.is_ipv4()),
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
                    write_sysctls(&self.request.netns, &pod_sysctls(&self.request.addresses))?;
                    first.push(Request::set_link_up(POD_LINK, true));
                }
                _ => {}
            }
        }
        let Some(link) = netlink.apply_then_link(first, POD_LINK)?.map(|link| link.index) else { return Ok(None) };
        let requests = actions.iter().filter_map(|action| match *action {
            Action::PodAddress(ip) => Some(Request::put_address(Address { link, ip, prefix: whole(ip) })),
            Action::PodNeighbour(ip) => Some(Request::put_neighbour(Neighbour { link, ip, mac: self.names.host_mac })),
            Action::PodDefaultRoute(gateway) => Some(Request::put_route(Route {
                destination: (unspecified(gateway), 0),
                gateway: Some(gateway),
                link,
                source: self.request.addresses.iter().copied().find(|ip| gateway_of(*ip) == gateway),
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

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
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

fn pod_sysctls(addresses: &[IpAddr]) -> Vec<Sysctl> {
    if addresses.iter().any(IpAddr::is_ipv6) {
        let values = [("disable_ipv6", 0), ("addr_gen_mode", 1), ("accept_ra", 0), ("router_solicitations", 0)];
        values.map(|(key, value)| Sysctl::ipv6(POD_LINK, key, value)).to_vec()
    } else {
        vec![Sysctl::ipv6(POD_LINK, "disable_ipv6", 1)]
    }
}
