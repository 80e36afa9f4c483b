//! Network namespaces, netlink and sysctls, in namespaces of the test's own.

use orlop_kernel::{
    Address, KernelError, LinkEvent, LinkEvents, Mac, Neighbour, Netlink, Netns, Request, Route, Sysctl, VethPair,
    read_sysctl, unpin, write_sysctls,
};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const MAC_A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two namespaces and a veth between them, both ends up.
fn joined() -> (Netns, Netns) {
    let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
    let pair = VethPair { name: "left", mac: MAC_A, peer_name: "right", peer_mac: MAC_B, peer_netns: &b, mtu: 1400 };
    let up = |name| vec![Request::set_link_up("lo", true), Request::set_link_up(name, true)];
    let mut left = Netlink::open_in(&a).unwrap();
    left.apply(vec![Request::create_veth(&pair)]).unwrap();
    left.apply(up("left")).unwrap();
    Netlink::open_in(&b).unwrap().apply(up("right")).unwrap();
    (a, b)
}

#[test]
fn work_in_a_namespace_leaves_the_thread_where_it_was() {
    let here = Netns::current().unwrap();
    let there = Netns::create().unwrap();
    assert_ne!(here.id(), there.id());
    assert_eq!(there.run(|| Netns::current().unwrap().id()).unwrap(), there.id());
    assert_eq!(Netns::current().unwrap().id(), here.id());
    // Already inside: the same thread does it.
    let inline = there.run(|| {
        let thread = std::thread::current().id();
        there.run(|| std::thread::current().id()).unwrap() == thread
    });
    assert!(inline.unwrap());
}

#[test]
fn a_pin_keeps_a_namespace_and_unpinning_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("net");
    let id = Netns::create_pinned(&pin).unwrap().id();
    assert_eq!(Netns::open(&pin).unwrap().id(), id);
    unpin(&pin).unwrap();
    unpin(&pin).unwrap();
    assert!(!pin.exists());
    std::fs::write(&pin, "").unwrap();
    assert!(matches!(Netns::open(&pin), Err(KernelError::NotNetns { .. })));
    unpin(&pin).unwrap();
    let other = Path::new("/proc/self/ns/uts");
    assert!(matches!(Netns::open(other), Err(KernelError::NotNetns { .. })), "a namespace of another type");
    assert!(matches!(Netns::open(&pin), Err(KernelError::Open { .. })));
}

#[test]
fn a_veth_is_made_in_its_namespaces_with_address_mtu_and_alias() {
    let (a, b) = joined();
    let mut netlink = Netlink::open_in(&a).unwrap();
    netlink.apply(vec![Request::set_link_alias("left", "pod one"), Request::set_link_mtu("left", 1300)]).unwrap();
    let left = netlink.link("left").unwrap().unwrap();
    assert_eq!((left.mac, left.mtu, left.up), (Some(MAC_A), 1300, true));
    assert_eq!((left.alias.as_deref(), left.kind.as_deref()), (Some("pod one"), Some("veth")));
    let right = Netlink::open_in(&b).unwrap().link("right").unwrap().unwrap();
    assert_eq!((right.mac, right.mtu, left.peer), (Some(MAC_B), 1400, Some(right.index.get())));
    netlink.apply(vec![Request::set_link_mac("left", MAC_B)]).unwrap();
    assert_eq!(netlink.link("left").unwrap().unwrap().mac, Some(MAC_B));
    assert_eq!(netlink.link("none").unwrap(), None);

    netlink.apply(vec![Request::delete_link(left.index)]).unwrap();
    netlink.apply(vec![Request::delete_link(left.index)]).unwrap();
    assert_eq!(netlink.link("left").unwrap(), None);
    assert_eq!(Netlink::open_in(&b).unwrap().link("right").unwrap(), None);
}

#[test]
fn a_batch_goes_on_after_a_refusal_and_names_it() {
    let netns = Netns::create().unwrap();
    let mut netlink = Netlink::open_in(&netns).unwrap();
    let error =
        netlink.apply(vec![Request::set_link_up("nothing", true), Request::set_link_up("lo", true)]).unwrap_err();
    assert_eq!(error.to_string(), "netlink: set link nothing up");
    assert_eq!(error.errno(), Some(libc::ENODEV));
    assert!(netlink.link("lo").unwrap().unwrap().up, "the request after the refused one");
}

/// Addresses, routes and neighbours of one family, twice over, and traffic by them.
fn check_family(a_ip: &str, b_ip: &str, gateway: &str, whole: u8) {
    let (a, b) = joined();
    let (a_ip, b_ip, gateway) = (ip(a_ip), ip(b_ip), ip(gateway));
    let sides = [(&a, "left", a_ip, b_ip, MAC_B), (&b, "right", b_ip, a_ip, MAC_A)];
    for (netns, name, own, other, other_mac) in sides {
        let mut netlink = Netlink::open_in(netns).unwrap();
        let link = netlink.link(name).unwrap().unwrap().index;
        let any = if own.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        let to_other = Route { destination: (other, whole), gateway: None, link, source: None };
        let default = Route { destination: (any, 0), gateway: Some(gateway), link, source: Some(own) };
        let neighbour = Neighbour { link, ip: other, mac: other_mac };
        let address = Address { link, ip: own, prefix: whole };
        let all = || {
            vec![
                Request::put_address(address),
                Request::put_neighbour(neighbour),
                Request::put_route(to_other),
                Request::put_route(default),
            ]
        };
        netlink.apply(all()).unwrap();
        netlink.apply(all()).unwrap();
        assert!(netlink.addresses().unwrap().contains(&address));
        assert!(netlink.neighbours().unwrap().contains(&neighbour));
        let routes = netlink.routes().unwrap();
        assert!(routes.contains(&to_other) && routes.contains(&default), "{routes:?}");
        assert_eq!(netlink.link_with_address(own).unwrap().unwrap().name, name);
        assert_eq!(netlink.link_with_address(gateway).unwrap(), None);
    }

    let listener = b.run(|| TcpListener::bind((b_ip, 0))).unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    let mut client = a.run(|| TcpStream::connect_timeout(&at, Duration::from_secs(5))).unwrap().unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), a_ip);
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    let stats = Netlink::open_in(&a).unwrap().link("left").unwrap().unwrap().stats;
    assert!(stats.tx_packets >= 3 && stats.rx_packets >= 1 && stats.tx_bytes > stats.tx_packets * 40, "{stats:?}");

    let mut netlink = Netlink::open_in(&a).unwrap();
    let link = netlink.link("left").unwrap().unwrap().index;
    let route = Route { destination: (b_ip, whole), gateway: None, link, source: None };
    let neighbour = Neighbour { link, ip: b_ip, mac: MAC_B };
    let address = Address { link, ip: a_ip, prefix: whole };
    for _ in 0..2 {
        let undo =
            [Request::delete_route(route), Request::delete_neighbour(neighbour), Request::delete_address(address)];
        netlink.apply(undo.to_vec()).unwrap();
    }
    assert!(!netlink.addresses().unwrap().contains(&address));
}

#[test]
fn ipv4() {
    check_family("10.0.0.1", "10.0.0.2", "169.254.1.1", 32);
}

#[test]
fn ipv6() {
    check_family("fd00::1", "fd00::2", "fe80::1", 128);
}

#[test]
fn sysctls_are_written_in_the_namespace_that_is_meant() {
    let (a, b) = joined();
    write_sysctls(&a, &[Sysctl::ipv4("left", "proxy_arp", 1), Sysctl::new("net/ipv4/ip_forward", "1")]).unwrap();
    assert_eq!(read_sysctl(&a, "net/ipv4/conf/left/proxy_arp").unwrap(), "1");
    assert_eq!(read_sysctl(&a, "net/ipv4/ip_forward").unwrap(), "1");
    assert_eq!(read_sysctl(&b, "net/ipv4/ip_forward").unwrap(), "0");
    let missing = Sysctl::ipv4("nothing", "proxy_arp", 1);
    write_sysctls(&a, &[missing.clone().optional()]).unwrap();
    assert!(write_sysctls(&a, &[missing]).unwrap_err().to_string().contains("conf/nothing/proxy_arp"));
}

#[tokio::test]
async fn link_events_tell_of_links_and_addresses() {
    let netns = Netns::create().unwrap();
    let mut events = LinkEvents::open(&netns).unwrap();
    let peer = Netns::create().unwrap();
    let pair = VethPair { name: "up0", mac: MAC_A, peer_name: "x", peer_mac: MAC_B, peer_netns: &peer, mtu: 1500 };
    let mut netlink = Netlink::open_in(&netns).unwrap();
    let link = netlink.apply_then_link(vec![Request::create_veth(&pair)], "up0").unwrap().unwrap().index;
    netlink.apply(vec![Request::put_address(Address { link, ip: ip("10.0.0.1"), prefix: 32 })]).unwrap();
    netlink.apply(vec![Request::delete_link(link)]).unwrap();
    let wait = async {
        let (mut appeared, mut address) = (false, false);
        loop {
            match events.next().await.unwrap() {
                LinkEvent::Changed(link) if link.name == "up0" => appeared = true,
                LinkEvent::Addresses(index) if index == link => address = true,
                LinkEvent::Gone(index) if index == link => return (appeared, address),
                _ => {}
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap(), (true, true));
}
