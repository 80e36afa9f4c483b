//! The node and the container that a call works on.

use super::call::Target;
use super::conf::Document;
use super::failure::{Code, Failure, causes};
use super::store::Store;
use crate::name::LinkNames;
use crate::wire::Wire;
use crate::{Attachment, PodNetwork, Wanted};
use jiff::Timestamp;
use orlop_kernel::{KernelError, Mac, Netlink, Netns, Route, read_sysctl};
use std::io;
use std::net::IpAddr;

/// The longest alias of a link in bytes: IFALIASZ without its terminator.
const ALIAS_LEN_MAX: usize = 255;
/// Bytes; what Ethernet has, when no route tells of a link.
const MTU_DEFAULT: u32 = 1500;

/// The node: the namespace that the plugin was started in.
pub(super) struct Place {
    pub node: Netns,
    pub network: PodNetwork,
}

impl Place {
    pub(super) fn here() -> Result<Self, Failure> {
        let node = Netns::current().map_err(|error| kernel("open the node's network namespace", &error))?;
        let network = PodNetwork::open(node.clone()).map_err(|error| Failure::of(&error))?;
        Ok(Self { node, network })
    }

    /// The container's namespace, which is not the node's.
    pub(super) fn open(&self, target: &Target) -> Result<Netns, Failure> {
        let (text, path) = target.netns()?;
        let container = &target.container;
        let netns = Netns::open(&path).map_err(|error| match error {
            KernelError::Open { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let message = format!("container {container} has no network namespace {text}");
                Failure::new(Code::UnknownContainer, message, causes(&error))
            }
            error => Failure::new(Code::InvalidNetns, format!("CNI_NETNS={text:?}: {error}"), causes(&error)),
        })?;
        if netns.id() == self.node.id() {
            let details = "a container on the host's network is on no other: do not call the plugin for it";
            return Err(Failure::new(Code::InvalidNetns, format!("CNI_NETNS={text:?} is the node's own"), details));
        }
        Ok(netns)
    }

    /// Which forwarding that `addresses` need is off, by its sysctl.
    pub(super) fn forwarding_off(&self, addresses: &[IpAddr]) -> Vec<&'static str> {
        let needed = |v4: bool| addresses.iter().any(|ip| ip.is_ipv4() == v4);
        let off = |key: &str| read_sysctl(&self.node, key).is_ok_and(|value| value == "0");
        let of = [(true, "net/ipv4/ip_forward"), (false, "net/ipv6/conf/all/forwarding")];
        of.into_iter().filter(|(v4, key)| needed(*v4) && off(key)).map(|(_, key)| key).collect()
    }

    /// The MTU of the link that leads out of the node, in bytes.
    pub(super) fn mtu(&self) -> Result<u32, Failure> {
        let failed = |error: KernelError| kernel("find the link of the default route", &error);
        let mut netlink = Netlink::open_in(&self.node).map_err(failed)?;
        let routes = netlink.routes().map_err(failed)?;
        let Some(out) = routes.iter().find(|route| route.destination.1 == 0) else { return Ok(MTU_DEFAULT) };
        let links = netlink.links().map_err(failed)?;
        Ok(links.iter().find(|link| link.index == out.link).map_or(MTU_DEFAULT, |link| link.mtu))
    }
}

/// What the container has before ADD.
pub(super) struct Inside {
    pub has_interface: bool,
    pub routes: Vec<Route>,
}

impl Inside {
    pub(super) fn of(netns: &Netns, ifname: &str) -> Result<Self, Failure> {
        let look = || {
            let mut netlink = Netlink::open_in(netns)?;
            Ok(Self { has_interface: netlink.link(ifname)?.is_some(), routes: netlink.routes()? })
        };
        look().map_err(|error| kernel("look into the container's network namespace", &error))
    }
}

pub(super) fn kernel(what: &str, error: &KernelError) -> Failure {
    Failure::new(Code::Kernel, what, format!("{error}: {}", causes(error)))
}

pub(super) fn attachment(document: &Document, target: &Target) -> Attachment {
    Attachment { network: document.network.clone(), container: target.container.clone(), ifname: target.ifname.clone() }
}

/// The host side's alias: by it GC knows a link whose lease was lost.
pub(super) fn alias(key: &Attachment) -> String {
    let mut text = key.to_string();
    let end = (0..=ALIAS_LEN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

pub(super) fn wire(key: &Attachment, netns: &Netns, mut wanted: Wanted, mac: Option<[u8; 6]>) -> Wire {
    wanted.names.pod_mac = mac.map_or(wanted.names.pod_mac, Mac);
    let Attachment { network, container, ifname } = key;
    let whose = format!("container {container}, interface {ifname} of network {network}");
    Wire { whose, alias: alias(key), netns: netns.clone(), wanted }
}

/// Takes the wire down, then gives the addresses back: never the other way round, or another
/// container could get the address of a wire that is still there.
pub(super) fn remove(place: &Place, store: &Store, key: &Attachment) -> Result<(), Failure> {
    let names = LinkNames::of_attachment(key);
    let outcome = place.network.delete(&names.host);
    outcome.map_err(|error| kernel(&format!("delete link {}", names.host), &error))?;
    store.with(|ipam| ipam.release(key, Timestamp::now()).map(drop))
}
