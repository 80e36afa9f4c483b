//! Routes with a mark, VXLAN devices and their tables, in namespaces of the test's own.

use orlop_kernel::{
    Address, FdbEntry, KernelError, LinkEvent, Mac, Neighbour, Netlink, Netns, Request, Route, RouteEntry, RouteEvent,
    RouteEvents, SeenRoute, Vxlan, VxlanSpec,
};
use orlop_model::Ifindex;
use std::net::IpAddr;

const OURS: u8 = 111;
const MAC: Mac = Mac([2, 1, 2, 3, 4, 5]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn spec<'a>(name: &'a str, local: &str) -> VxlanSpec<'a> {
    VxlanSpec { name, mac: MAC, mtu: 1450, vni: 1, port: 8472, local: ip(local) }
}

/// A namespace with a VXLAN device over each family, both up.
fn tunnels() -> (Netns, Netlink, Vxlan, Vxlan) {
    let netns = Netns::create().unwrap();
    let mut netlink = Netlink::open_in(&netns).unwrap();
    let lo = netlink.link("lo").unwrap().unwrap().index;
    let own = Address { link: lo, ip: ip("192.0.2.1"), prefix: 32 };
    let made = netlink.apply(vec![
        Request::set_link_up("lo", true),
        Request::put_address(own),
        Request::create_vxlan(&spec("vx4", "192.0.2.1")),
        Request::create_vxlan(&spec("vx6", "::")),
        Request::set_link_up("vx4", true),
        Request::set_link_up("vx6", true),
    ]);
    made.unwrap();
    let mut found = netlink.vxlans().unwrap().into_iter();
    let (four, six) = (found.next().unwrap(), found.next().unwrap());
    (netns, netlink, four, six)
}

fn route(to: &str, prefix: u8, via: &str, link: Ifindex) -> Route {
    Route { destination: (ip(to), prefix), gateway: Some(ip(via)), link, source: None }
}

#[test]
fn a_vxlan_device_over_each_family() {
    let (_netns, mut netlink, four, six) = tunnels();
    for (device, name, local) in [(&four, "vx4", Some(ip("192.0.2.1"))), (&six, "vx6", None)] {
        assert_eq!((device.vni, device.port, device.local), (1, 8472, local));
        let link = &device.link;
        assert_eq!((&*link.name, link.mac, link.mtu, link.up), (name, Some(MAC), 1450, true));
        assert_eq!(link.kind.as_deref(), Some("vxlan"));
    }
    // A second one with the number and port is refused in words.
    let error = netlink.apply(vec![Request::create_vxlan(&spec("vx5", "192.0.2.1"))]).unwrap_err();
    assert_eq!(error.errno(), Some(17));
    assert_eq!(error.to_string(), "netlink: make VXLAN device vx5 with vni 1 on UDP port 8472");
}

#[test]
fn who_is_behind_which_node() {
    let (_netns, mut netlink, four, six) = tunnels();
    for (device, one, other) in [(&four, "192.0.2.7", "192.0.2.8"), (&six, "2001:db8::7", "2001:db8::8")] {
        let entry =
            |remote: &str| FdbEntry { link: device.link.index, mac: Mac([2, 9, 9, 9, 9, 9]), remote: ip(remote) };
        netlink.apply(vec![Request::put_fdb(entry(one))]).unwrap();
        netlink.apply(vec![Request::put_fdb(entry(one))]).unwrap();
        assert_eq!(netlink.fdb(device.link.index).unwrap(), [entry(one)]);
        netlink.apply(vec![Request::put_fdb(entry(other))]).unwrap();
        assert_eq!(netlink.fdb(device.link.index).unwrap(), [entry(other)]);
        netlink.apply(vec![Request::delete_fdb(entry(other)), Request::delete_fdb(entry(other))]).unwrap();
        assert_eq!(netlink.fdb(device.link.index).unwrap(), []);
    }
}

#[test]
fn a_route_says_whose_it_is() {
    let (_netns, mut netlink, four, six) = tunnels();
    let seen = |netlink: &mut Netlink, to: IpAddr| -> Vec<SeenRoute> {
        netlink.route_entries().unwrap().into_iter().filter(|route| route.destination.0 == to).collect()
    };
    for (device, to, prefix, via, other) in
        [(&four, "10.1.2.0", 24, "10.1.2.0", "10.1.2.1"), (&six, "fd00:2::", 64, "fe80::7", "fe80::8")]
    {
        let link = device.link.index;
        let ours = RouteEntry { route: route(to, prefix, via, link), protocol: OURS, mtu: Some(1400) };
        netlink.apply(vec![Request::create_route_entry(ours)]).unwrap();
        let found = seen(&mut netlink, ip(to));
        assert_eq!(found.iter().map(|route| route.entry).collect::<Vec<_>>(), [Some(ours)]);
        assert_eq!(found[0].to_string(), format!("route {to}/{prefix} via {via} on {link} (protocol 111)"));
        // Changed in place.
        let changed = RouteEntry { route: route(to, prefix, other, link), protocol: OURS, mtu: None };
        netlink.apply(vec![Request::put_route_entry(changed)]).unwrap();
        assert_eq!(seen(&mut netlink, ip(to)).iter().map(|route| route.entry).collect::<Vec<_>>(), [Some(changed)]);
        netlink.apply(vec![Request::delete_route_of((ip(to), prefix), OURS)]).unwrap();
        assert_eq!(seen(&mut netlink, ip(to)), []);
        // One that is not ours is neither overwritten nor removed.
        let foreign = route(to, prefix, via, link);
        netlink.apply(vec![Request::put_route(foreign)]).unwrap();
        let error = netlink.apply(vec![Request::create_route_entry(ours)]).unwrap_err();
        assert_eq!(error.errno(), Some(17), "{error}");
        netlink.apply(vec![Request::delete_route_of((ip(to), prefix), OURS)]).unwrap();
        let left = seen(&mut netlink, ip(to));
        assert_eq!(
            left.iter().map(|route| (route.protocol, route.entry.map(|entry| entry.route))).collect::<Vec<_>>(),
            [(4, Some(foreign))]
        );
    }
}

#[test]
fn one_that_fails_holds_up_no_other() {
    let (_netns, mut netlink, four, _) = tunnels();
    let link = four.link.index;
    let nowhere = Ifindex::new(9999).unwrap();
    let neighbour = |n: u16| {
        let at = if n.is_multiple_of(3) { nowhere } else { link };
        Neighbour { link: at, ip: IpAddr::from([10, 9, (n >> 8) as u8, n as u8]), mac: MAC }
    };
    let outcomes = netlink.apply_each((0..500).map(|n| Request::put_neighbour(neighbour(n))).collect()).unwrap();
    assert_eq!(outcomes.len(), 500);
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), n % 3 == 0, "{n}: {outcome:?}");
    }
    assert!(matches!(&outcomes[3], Err(KernelError::Netlink { request, .. }) if request.contains("10.9.0.3")));
    assert_eq!(netlink.neighbours().unwrap().len(), 333);
}

#[tokio::test]
async fn what_is_taken_away_is_heard_of() {
    let (netns, mut netlink, four, _) = tunnels();
    let link = four.link.index;
    let ours = RouteEntry { route: route("10.1.2.0", 24, "10.1.2.0", link), protocol: OURS, mtu: None };
    let neighbour = Neighbour { link, ip: ip("10.1.2.0"), mac: MAC };
    let entry = FdbEntry { link, mac: MAC, remote: ip("192.0.2.7") };
    netlink
        .apply(vec![Request::create_route_entry(ours), Request::put_neighbour(neighbour), Request::put_fdb(entry)])
        .unwrap();
    let mut events = RouteEvents::open(&netns).unwrap();
    let gone = RouteEvent::Gone { destination: (ip("10.1.2.0"), 24), protocol: OURS };
    for (request, event) in [
        (Request::delete_route_of((ip("10.1.2.0"), 24), OURS), gone),
        (Request::delete_neighbour(neighbour), RouteEvent::NeighbourGone(link)),
        (Request::delete_fdb(entry), RouteEvent::NeighbourGone(link)),
        (Request::delete_link(link), RouteEvent::Link(LinkEvent::Gone(link))),
    ] {
        netlink.apply(vec![request]).unwrap();
        while events.next().await.unwrap() != event {}
    }
}
