//! What there is of a pod's network, from the kernel.

use crate::name::LinkNames;
use crate::plan::{HostSide, Observed, PodSide, gateway_of};
use ipnet::IpNet;
use orlop_kernel::{KernelError, Link, Netlink};

/// The host side, with its routes and neighbours.
pub(crate) fn host_side(netlink: &mut Netlink, names: &LinkNames) -> Result<Option<HostSide>, KernelError> {
    let Some(link) = netlink.link(&names.host)? else { return Ok(None) };
    let routes = netlink.routes()?.into_iter().filter(|route| route.link == link.index);
    let host_routes =
        routes.filter(|route| route.destination.1 == if route.destination.0.is_ipv4() { 32 } else { 128 });
    let routes = host_routes.map(|route| route.destination.0).collect();
    let neighbours = netlink.neighbours()?.into_iter().filter(|neighbour| neighbour.link == link.index);
    Ok(Some(HostSide {
        index: link.index,
        peer: link.peer,
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        routes,
        neighbours: neighbours.map(|neighbour| (neighbour.ip, neighbour.mac)).collect(),
    }))
}

/// The pod side and its loopback, from a socket in the pod's namespace.
pub(crate) fn pod_side(netlink: &mut Netlink, names: &LinkNames, observed: &mut Observed) -> Result<(), KernelError> {
    let links = netlink.links()?;
    observed.loopback_up = links.iter().any(|link| link.loopback && link.up);
    let Some(link) = links.into_iter().find(|link| link.name == names.pod) else { return Ok(()) };
    let Link { index, peer, mac, mtu, up, .. } = link;
    let addresses = netlink.addresses()?.into_iter().filter(|address| address.link == index);
    let addresses = addresses.map(|address| address.ip).collect();
    let routes = netlink.routes()?.into_iter().filter(|route| route.link == index);
    let by_gateway = routes.filter(|route| route.gateway == Some(gateway_of(route.destination.0)));
    let routes = by_gateway.filter_map(|route| IpNet::new(route.destination.0, route.destination.1).ok()).collect();
    let neighbours = netlink.neighbours()?.into_iter().filter(|neighbour| neighbour.link == index);
    let neighbours = neighbours.map(|neighbour| (neighbour.ip, neighbour.mac)).collect();
    observed.pod = Some(PodSide { index, peer, mac, mtu, up, addresses, routes, neighbours });
    Ok(())
}
