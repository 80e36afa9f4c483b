//! Pods on two nodes, in namespaces of the test's own: on one link, and with a router between.

use ipnet::IpNet;
use orlop_cni::{
    AttachRequest, ClusterNode, PeerNetwork, PeerProblem, PeerSettings, PeersReport, PodNetwork, Underlay, vtep_mac,
};
use orlop_kernel::{Address, FdbEntry, Mac, Neighbour, Netlink, Netns, Request, Route, VethPair, VxlanSpec};
use orlop_model::PodUid;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(5);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn netlink(netns: &Netns) -> Netlink {
    Netlink::open_in(netns).unwrap()
}

/// A veth between two namespaces, both ends up and with addresses.
fn join(left: (&Netns, &str, &[&str]), right: (&Netns, &str, &[&str])) {
    // Any addresses, as long as they differ.
    let (mac_l, mac_r) = (vtep_mac(net(left.2[0]).addr()), vtep_mac(net(right.2[0]).addr()));
    let pair =
        VethPair { name: left.1, mac: mac_l, peer_name: right.1, peer_mac: mac_r, peer_netns: right.0, mtu: 1500 };
    netlink(left.0).apply(vec![Request::create_veth(&pair)]).unwrap();
    for (netns, name, addresses) in [left, right] {
        let mut netlink = netlink(netns);
        let link = netlink.apply_then_link(vec![Request::set_link_up(name, true)], name).unwrap().unwrap().index;
        let own = addresses.iter().map(|text| net(text));
        let put = own.map(|net| Request::put_address(Address { link, ip: net.addr(), prefix: net.prefix_len() }));
        netlink.apply(put.collect()).unwrap();
    }
}

fn default_route(netns: &Netns, link: &str, gateway: &str) {
    let mut netlink = netlink(netns);
    let link = netlink.link(link).unwrap().unwrap().index;
    let any = if gateway.contains(':') { "::" } else { "0.0.0.0" };
    let route = Route { destination: (ip(any), 0), gateway: Some(ip(gateway)), link, source: None };
    netlink.apply(vec![Request::put_route(route)]).unwrap();
}

struct Node {
    netns: Netns,
    peers: PeerNetwork,
    own: ClusterNode,
    pod: Netns,
}

impl Node {
    fn reconcile(&self, others: &[&Node]) -> PeersReport {
        let others: Vec<_> = others.iter().map(|other| Arc::new(other.own.clone())).collect();
        self.peers.reconcile(&self.own, &others, PeerSettings::default()).unwrap()
    }

    /// All is made so, and then all is so.
    #[track_caller]
    fn settle(&self, others: &[&Node]) -> PeersReport {
        self.reconcile(others);
        let report = self.reconcile(others);
        assert_eq!((report.steps, &*report.problems), (0, &[][..]));
        report
    }
}

/// A node without links, with a pod at the second address of each range.
async fn node(name: &str, addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    let (netns, pod) = (Netns::create().unwrap(), Netns::create().unwrap());
    let network = PodNetwork::open(netns.clone()).unwrap();
    network.prepare_node().await.unwrap();
    let pod_cidrs: Vec<IpNet> = pod_cidrs.iter().map(|text| net(text)).collect();
    let second = pod_cidrs.iter().map(|cidr| cidr.hosts().find(|ip| *ip != cidr.network()).unwrap());
    let request =
        AttachRequest { uid: PodUid::new(name).unwrap(), netns: pod.clone(), addresses: second.collect(), mtu: 1500 };
    network.attach(&request).await.unwrap();
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    let own = ClusterNode { name: name.into(), created: None, addresses, pod_cidrs };
    Node { peers: PeerNetwork::new(netns.clone()), netns, own, pod }
}

/// One link, both families.
async fn on_one_link() -> (Node, Node) {
    let one = node("n1", &["192.0.2.1", "2001:db8::1"], &["10.1.1.0/24", "fd00:1::/64"]).await;
    let two = node("n2", &["192.0.2.2", "2001:db8::2"], &["10.1.2.0/24", "fd00:2::/64"]).await;
    join(
        (&one.netns, "up0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&two.netns, "up0", &["192.0.2.2/24", "2001:db8::2/64"]),
    );
    (one, two)
}

/// With a router between that knows no pod. Its namespace lives as long as its links.
async fn with_a_router(underlays: &[[&str; 4]]) -> (Node, Node, Netns) {
    let addresses = |nth: usize| underlays.iter().map(|four| four[nth]).collect::<Vec<_>>();
    let plain = |nth: usize| addresses(nth).iter().map(|text| text.split('/').next().unwrap()).collect::<Vec<_>>();
    let one = node("n1", &plain(0), &["10.1.1.0/24", "fd00:1::/64"]).await;
    let two = node("n2", &plain(2), &["10.1.2.0/24", "fd00:2::/64"]).await;
    let router = Netns::create().unwrap();
    PodNetwork::open(router.clone()).unwrap().prepare_node().await.unwrap();
    join((&one.netns, "up0", &addresses(0)), (&router, "ro1", &addresses(1)));
    join((&two.netns, "up0", &addresses(2)), (&router, "ro2", &addresses(3)));
    for (node, gateways) in [(&one, plain(1)), (&two, plain(3))] {
        gateways.iter().for_each(|gateway| default_route(&node.netns, "up0", gateway));
    }
    (one, two, router)
}

const V4: [&str; 4] = ["192.0.2.1/24", "192.0.2.254/24", "198.51.100.2/24", "198.51.100.254/24"];
const V6: [&str; 4] = ["2001:db8:1::1/64", "2001:db8:1::fe/64", "2001:db8:2::2/64", "2001:db8:2::fe/64"];

/// A megabyte to a listener at `to` in `server`; gives the client's address as the server sees it.
#[track_caller]
fn talk(from: &Netns, server: &Netns, to: &str) -> IpAddr {
    try_talk(from, server, to).unwrap_or_else(|error| panic!("to {to}: {error}"))
}

fn try_talk(from: &Netns, server: &Netns, to: &str) -> std::io::Result<IpAddr> {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(ip(to), 0))).unwrap()?;
    let at = listener.local_addr()?;
    let mut stream = from.run(|| TcpStream::connect_timeout(&at, WAIT)).unwrap()?;
    let (mut heard, peer) = listener.accept()?;
    heard.set_read_timeout(Some(WAIT))?;
    let sender = std::thread::spawn(move || stream.write_all(&[7; 1_000_000]));
    let mut bytes = vec![0; 1_000_000];
    heard.read_exact(&mut bytes)?;
    sender.join().unwrap()?;
    Ok(peer.ip())
}

/// Pods and hosts reach the other node's pod, each with the address it should have.
#[track_caller]
fn check_reach(one: &Node, two: &Node, host: [&str; 2]) {
    for (to, pod, host) in [("10.1.2.1", "10.1.1.1", host[0]), ("fd00:2::1", "fd00:1::1", host[1])] {
        assert_eq!(talk(&one.pod, &two.pod, to), ip(pod));
        assert_eq!(talk(&one.netns, &two.pod, to), ip(host));
    }
    assert_eq!(talk(&two.pod, &one.pod, "10.1.1.1"), ip("10.1.2.1"));
}

#[tokio::test]
async fn on_one_link_directly() {
    let (one, two) = on_one_link().await;
    let report = one.settle(&[&two]);
    two.settle(&[&one]);
    assert_eq!((report.tunnels.len(), report.uplinks.len(), &*report.uplinks[0].name), (0, 1, "up0"));
    check_reach(&one, &two, ["192.0.2.1", "2001:db8::1"]);
}

#[tokio::test]
async fn through_a_tunnel_over_ipv4() {
    let (one, two, _router) = with_a_router(&[V4, V6]).await;
    let report = one.settle(&[&two]);
    two.settle(&[&one]);
    let tunnel = &report.tunnels[0];
    assert_eq!((report.tunnels.len(), tunnel.underlay, tunnel.mtu), (1, Underlay::V4, 1450));
    assert_eq!(tunnel.addresses, [ip("10.1.1.0"), ip("fd00:1::")]);
    check_reach(&one, &two, ["10.1.1.0", "fd00:1::"]);
}

#[tokio::test]
async fn through_a_tunnel_over_ipv6() {
    let (one, two, _router) = with_a_router(&[V6]).await;
    let report = one.settle(&[&two]);
    two.settle(&[&one]);
    assert_eq!((report.tunnels[0].underlay, report.tunnels[0].mtu), (Underlay::V6, 1430));
    check_reach(&one, &two, ["10.1.1.0", "fd00:1::"]);
}

#[tokio::test]
async fn what_somebody_takes_away_comes_back() {
    let (one, two, _router) = with_a_router(&[V4]).await;
    let report = one.settle(&[&two]);
    two.settle(&[&one]);
    let link = report.tunnels[0].index;
    let mac = vtep_mac(ip("198.51.100.2"));
    let harms = [
        (Request::delete_route_of((ip("10.1.2.0"), 24), orlop_cni::ROUTE_PROTOCOL), 1),
        (Request::delete_neighbour(Neighbour { link, ip: ip("10.1.2.0"), mac }), 1),
        (Request::put_neighbour(Neighbour { link, ip: ip("10.1.2.0"), mac: Mac([2, 0, 0, 0, 0, 1]) }), 1),
        (Request::delete_fdb(FdbEntry { link, mac, remote: ip("198.51.100.2") }), 1),
        (Request::put_fdb(FdbEntry { link, mac, remote: ip("203.0.113.9") }), 1),
        // The last address of a family takes its neighbours with it, and the routes that name it.
        (Request::delete_address(Address { link, ip: ip("10.1.1.0"), prefix: 32 }), 3),
        // IPv6 routes shrink with their device.
        (Request::set_link_mtu("orlop-vxlan", 1300), 2),
        // The address fd00:1::, and the next hop and route of each family.
        (Request::set_link_up("orlop-vxlan", false), 6),
        (Request::delete_link(link), 9),
    ];
    for (harm, steps) in harms {
        let what = format!("{harm:?}");
        netlink(&one.netns).apply(vec![harm]).unwrap();
        assert_eq!(one.reconcile(&[&two]).steps, steps, "{what}");
        one.settle(&[&two]);
        assert_eq!(talk(&one.netns, &two.pod, "10.1.2.1"), ip("10.1.1.0"), "{what}");
        assert_eq!(talk(&one.netns, &two.pod, "fd00:2::1"), ip("fd00:1::"), "{what}");
    }
}

#[tokio::test]
async fn a_peer_that_moves_is_found_again() {
    let (one, mut two, router) = with_a_router(&[V4]).await;
    two.settle(&[&one]);
    one.settle(&[&two]);
    // Another address on its link.
    let mut of_two = netlink(&two.netns);
    let link = of_two.link("up0").unwrap().unwrap().index;
    let address = |text| Address { link, ip: ip(text), prefix: 24 };
    of_two.apply(vec![Request::put_address(address("198.51.100.7"))]).unwrap();
    two.own.addresses = vec![ip("198.51.100.7")];
    // A forwarding entry, the next hop of each family and the IPv6 route by it; two old ones away.
    assert_eq!(one.reconcile(&[&two]).steps, 6);
    two.settle(&[&one]);
    one.settle(&[&two]);
    check_reach(&one, &two, ["10.1.1.0", "fd00:1::"]);
    // Onto our link.
    join((&one.netns, "up1", &["203.0.113.1/24"]), (&two.netns, "up1", &["203.0.113.2/24"]));
    two.own.addresses = vec![ip("203.0.113.2")];
    let moved = ClusterNode { addresses: vec![ip("203.0.113.1")], ..one.own.clone() };
    let one = Node { own: moved, ..one };
    one.settle(&[&two]);
    two.settle(&[&one]);
    assert_eq!(talk(&one.netns, &two.pod, "10.1.2.1"), ip("203.0.113.1"));
    drop(router);
}

#[tokio::test]
async fn a_route_of_somebody_else_is_told_of() {
    let (one, two) = on_one_link().await;
    two.settle(&[&one]);
    let mut of_one = netlink(&one.netns);
    let link = of_one.link("up0").unwrap().unwrap().index;
    let foreign = Route { destination: (ip("10.1.2.0"), 24), gateway: Some(ip("192.0.2.9")), link, source: None };
    of_one.apply(vec![Request::put_route(foreign)]).unwrap();
    let report = one.reconcile(&[&two]);
    let words = format!("route 10.1.2.0/24 via 192.0.2.9 on {link} (protocol 4)");
    let problem = PeerProblem::ForeignRoute { peer: "n2".into(), cidr: net("10.1.2.0/24"), route: words };
    assert_eq!((report.steps, report.problems), (1, vec![problem]));
    assert!(of_one.routes().unwrap().contains(&foreign));
    assert_eq!(talk(&one.pod, &two.pod, "fd00:2::1"), ip("fd00:1::1"), "the other family goes on");
    of_one.apply(vec![Request::delete_route(foreign)]).unwrap();
    one.settle(&[&two]);
    assert_eq!(talk(&one.pod, &two.pod, "10.1.2.1"), ip("10.1.1.1"));
}

#[tokio::test]
async fn what_the_kernel_refuses_holds_up_nobody_else() {
    let (one, mut two, _router) = with_a_router(&[V4]).await;
    let three = node("n3", &["192.0.2.3"], &["10.1.3.0/24"]).await;
    two.own.pod_cidrs.truncate(1);
    // flannel's device, which has the same number and port.
    let flannel = VxlanSpec {
        name: "flannel.1",
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1450,
        vni: 1,
        port: 8472,
        local: ip("192.0.2.1"),
    };
    let mut of_one = netlink(&one.netns);
    of_one.apply(vec![Request::create_vxlan(&flannel)]).unwrap();
    let report = one.reconcile(&[&two, &three]);
    let words: Vec<String> = report.problems.iter().map(|one| format!("{}: {one}", one.reason())).collect();
    assert_eq!(
        words,
        [
            "TunnelFailed: the tunnel to other nodes does not work: netlink: make VXLAN device orlop-vxlan with vni 1 on \
          UDP port 8472: File exists (os error 17)"
        ]
    );
    assert!(report.is_worth_another_try());
    let known =
        |netlink: &mut Netlink| netlink.routes().unwrap().iter().any(|route| route.destination.0 == ip("10.1.3.0"));
    assert!(known(&mut of_one));
    let link = of_one.link("flannel.1").unwrap().unwrap().index;
    of_one.apply(vec![Request::delete_link(link)]).unwrap();
    one.settle(&[&two, &three]);
}

#[tokio::test]
async fn nothing_of_it_is_left() {
    let (one, two, _router) = with_a_router(&[V4]).await;
    let mut of_one = netlink(&one.netns);
    let before = of_one.routes().unwrap();
    one.settle(&[&two]);
    assert_ne!(of_one.routes().unwrap(), before);
    assert_eq!(one.peers.remove_all().unwrap(), ["route 10.1.2.0/24", "route fd00:2::/64", "link orlop-vxlan"]);
    assert_eq!((of_one.routes().unwrap(), of_one.vxlans().unwrap()), (before, vec![]));
    assert_eq!(one.peers.remove_all().unwrap(), Vec::<String>::new());
    // And a node without peers any more.
    one.settle(&[&two]);
    one.settle(&[]);
    assert_eq!(of_one.vxlans().unwrap(), []);
}

#[tokio::test]
async fn a_thousand_nodes() {
    let (one, _two, _router) = with_a_router(&[V4]).await;
    let own = |n: u16, net: &str| ClusterNode {
        name: format!("w{n}").into(),
        created: None,
        addresses: vec![ip(&format!("{net}.{}", n % 250 + 2))],
        pod_cidrs: vec![format!("10.{}.{}.0/24", 2 + n / 250, n % 250).parse().unwrap()],
    };
    let net = |n: u16| if n.is_multiple_of(2) { "192.0.2".to_owned() } else { format!("198.51.{}", n / 250) };
    let mut peers: Vec<_> = (0..1_000).map(|n| Arc::new(own(n, &net(n)))).collect();
    let reconcile = |peers: &[Arc<ClusterNode>]| one.peers.reconcile(&one.own, peers, PeerSettings::default()).unwrap();
    let report = reconcile(&peers);
    assert_eq!(report.problems, []);
    assert_eq!(reconcile(&peers).steps, 0);
    assert_eq!(netlink(&one.netns).fdb(report.tunnels[0].index).unwrap().len(), 500);
    peers.truncate(999);
    assert_eq!(reconcile(&peers).steps, 3);
    assert_eq!(reconcile(&[]).steps, 1_000);
}
