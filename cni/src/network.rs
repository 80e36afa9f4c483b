//! Putting pods on the wire and taking them off it: the thin half.

use crate::CniError;
use crate::name::LinkNames;
use crate::plan::{Observed, Wanted, default_routes};
use crate::wire::{Wire, Work};
use orlop_kernel::{KernelError, Mac, Netlink, Netns, Request, Sysctl, read_sysctl, write_sysctls};
use orlop_model::{Ifindex, PodUid};
use std::net::IpAddr;
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

impl AttachRequest {
    fn wire(&self) -> Wire {
        let wanted = Wanted {
            names: LinkNames::of(&self.uid),
            addresses: self.addresses.clone(),
            routes: default_routes(&self.addresses),
            mtu: self.mtu,
        };
        Wire { whose: format!("pod {}", self.uid), alias: self.uid.to_string(), netns: self.netns.clone(), wanted }
    }
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
    /// The pod side, in the pod's namespace.
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
        in_thread(move || this.prepare_node_blocking()).await
    }

    /// As [`PodNetwork::prepare_node`], on the calling thread.
    ///
    /// # Errors
    /// The same.
    pub fn prepare_node_blocking(&self) -> Result<(), CniError> {
        self.netlink().apply(vec![Request::set_link_up("lo", true)]).map_err(node_error("bring loopback up"))?;
        let links = self.netlink().links().map_err(node_error("list links"))?;
        let mut sysctls = vec![Sysctl::new("net/ipv4/ip_forward", "1")];
        let of_a_pod = |name: &str| LinkNames::is_host_side(name) || LinkNames::is_attachment(name);
        for link in links.iter().filter(|link| !link.loopback && !of_a_pod(&link.name)) {
            // Unreadable where the kernel or the link has no IPv6.
            let accepts = read_sysctl(&self.node, &format!("net/ipv6/conf/{}/accept_ra", link.name));
            if accepts.is_ok_and(|value| value == "1") {
                sysctls.push(Sysctl::ipv6(&link.name, "accept_ra", 2));
            }
        }
        sysctls.push(Sysctl::ipv6("all", "forwarding", 1));
        write_sysctls(&self.node, &sysctls).map_err(node_error("turn forwarding on"))
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
        self.attach_wire(&request.wire())
    }

    pub(crate) fn attach_wire(&self, wire: &Wire) -> Result<Attached, CniError> {
        Work { network: self, wire }.attach()
    }

    /// What there is of a pod's network.
    ///
    /// # Errors
    /// A namespace cannot be read.
    pub async fn observe(&self, uid: &PodUid, netns: &Netns) -> Result<Observed, CniError> {
        let request = AttachRequest { uid: uid.clone(), netns: netns.clone(), addresses: Vec::new(), mtu: 0 };
        let this = self.clone();
        in_thread(move || this.observe_wire(&request.wire())).await
    }

    pub(crate) fn observe_wire(&self, wire: &Wire) -> Result<Observed, CniError> {
        Work { network: self, wire }.observe()
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
            this.delete(&name).map_err(|source| CniError::HostSide { whose: format!("pod {uid}"), source })
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

    pub(crate) fn delete(&self, name: &str) -> Result<(), KernelError> {
        let mut netlink = Netlink::open_in(&self.node)?;
        match netlink.link(name)? {
            Some(link) => netlink.apply(vec![Request::delete_link(link.index)]),
            None => Ok(()),
        }
    }

    pub(crate) fn node(&self) -> &Netns {
        &self.node
    }

    pub(crate) fn node_ip_like(&self, ip: IpAddr) -> Option<IpAddr> {
        self.node_ips.iter().copied().find(|node| node.is_ipv4() == ip.is_ipv4())
    }

    pub(crate) fn netlink(&self) -> MutexGuard<'_, Netlink> {
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
