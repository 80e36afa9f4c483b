//! Pods on the wire, in namespaces of the test's own: real TCP between them.

use orlop_cni::{AttachRequest, Attached, PodNetwork, Wanted, default_routes, plan};
use orlop_kernel::{Address, Mac, Netlink, Netns, Request, VethPair, read_sysctl};
use orlop_model::PodUid;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const MTU: u32 = 1400;
const WAIT: Duration = Duration::from_secs(5);

struct World {
    node: Netns,
    network: PodNetwork,
}

struct Pod {
    request: AttachRequest,
    attached: Attached,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

impl World {
    /// A node with the addresses 192.0.2.1 and 2001:db8::1 on its loopback.
    async fn new() -> Self {
        let node = Netns::create().unwrap();
        let network = PodNetwork::open(node.clone()).unwrap();
        network.prepare_node().await.unwrap();
        let mut netlink = Netlink::open_in(&node).unwrap();
        let link = netlink.link("lo").unwrap().unwrap().index;
        let own = |text, prefix| Request::put_address(Address { link, ip: ip(text), prefix });
        netlink.apply(vec![own("192.0.2.1", 32), own("2001:db8::1", 128)]).unwrap();
        Self { node, network }
    }

    async fn pod(&self, uid: &str, addresses: &[&str]) -> Pod {
        let request = AttachRequest {
            uid: PodUid::new(uid).unwrap(),
            netns: Netns::create().unwrap(),
            addresses: ips(addresses),
            mtu: MTU,
        };
        let attached = self.network.attach(&request).await.unwrap();
        Pod { request, attached }
    }
}

/// One connection from `from` to a listener at `to` in `server`; gives the client's address as the server sees it.
fn echo(from: &Netns, server: &Netns, to: &str) -> IpAddr {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(ip(to), 0))).unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
        peer.ip()
    });
    let mut stream = from.run(|| TcpStream::connect_timeout(&at, WAIT)).unwrap().unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    answer.join().unwrap()
}

#[tokio::test]
async fn pods_and_node_reach_each_other_over_both_families() {
    let world = World::new().await;
    let a = world.pod("a", &["10.1.0.2", "fd00::2"]).await;
    let b = world.pod("b", &["10.1.0.3", "fd00::3"]).await;
    let (a, b, node) = (&a.request.netns, &b.request.netns, &world.node);
    for (from, to, at, seen) in [
        (a, b, "10.1.0.3", "10.1.0.2"),
        (b, a, "10.1.0.2", "10.1.0.3"),
        (a, b, "fd00::3", "fd00::2"),
        (b, a, "fd00::2", "fd00::3"),
        (node, a, "10.1.0.2", "192.0.2.1"),
        (node, a, "fd00::2", "2001:db8::1"),
        (a, node, "192.0.2.1", "10.1.0.2"),
        (a, node, "2001:db8::1", "fd00::2"),
        (a, a, "127.0.0.1", "127.0.0.1"),
    ] {
        assert_eq!(echo(from, to, at), ip(seen), "to {at}");
    }
}

#[tokio::test]
async fn the_node_speaks_to_pods_from_the_address_it_is_told() {
    let mut world = World::new().await;
    let mut netlink = Netlink::open_in(&world.node).unwrap();
    let link = netlink.link("lo").unwrap().unwrap().index;
    netlink.apply(vec![Request::put_address(Address { link, ip: ip("192.0.2.9"), prefix: 32 })]).unwrap();
    world.network = world.network.with_node_ips(vec![ip("192.0.2.9")]);
    let pod = world.pod("told", &["10.1.0.2"]).await;
    assert_eq!(echo(&world.node, &pod.request.netns, "10.1.0.2"), ip("192.0.2.9"));
}

#[tokio::test]
async fn attaching_again_changes_nothing() {
    let world = World::new().await;
    let pod = world.pod("again", &["10.1.0.2", "fd00::2"]).await;
    let observed = world.network.observe(&pod.request.uid, &pod.request.netns).await.unwrap();
    let names = orlop_cni::LinkNames::of(&pod.request.uid);
    let routes = default_routes(&pod.request.addresses);
    let wanted = Wanted { names, addresses: pod.request.addresses.clone(), routes, mtu: MTU };
    assert_eq!(plan(&wanted, &observed), []);
    assert_eq!(world.network.attach(&pod.request).await.unwrap(), pod.attached);
    echo(&world.node, &pod.request.netns, "10.1.0.2");
}

#[tokio::test]
async fn a_crash_in_the_middle_is_finished() {
    let world = World::new().await;
    let request = AttachRequest {
        uid: PodUid::new("crash").unwrap(),
        netns: Netns::create().unwrap(),
        addresses: ips(&["10.1.0.2", "fd00::2"]),
        mtu: MTU,
    };
    let names = orlop_cni::LinkNames::of(&request.uid);
    let pair = VethPair {
        name: &names.host,
        mac: names.host_mac,
        peer_name: "eth0",
        peer_mac: names.pod_mac,
        peer_netns: &request.netns,
        mtu: MTU,
    };
    Netlink::open_in(&world.node).unwrap().apply(vec![Request::create_veth(&pair)]).unwrap();
    world.network.attach(&request).await.unwrap();
    echo(&world.node, &request.netns, "10.1.0.2");
    echo(&request.netns, &world.node, "2001:db8::1");
}

#[tokio::test]
async fn a_new_sandbox_of_the_same_pod_takes_over() {
    let world = World::new().await;
    let old = world.pod("same", &["10.1.0.2"]).await;
    let new = world.pod("same", &["10.1.0.2"]).await;
    echo(&world.node, &new.request.netns, "10.1.0.2");
    assert_ne!(old.attached.host, new.attached.host);
    let links = Netlink::open_in(&old.request.netns).unwrap().links().unwrap();
    assert!(links.iter().all(|link| link.name != "eth0"), "{links:?}");
}

#[tokio::test]
async fn detach_removes_both_sides_and_may_be_repeated() {
    let world = World::new().await;
    let pod = world.pod("gone", &["10.1.0.2", "fd00::2"]).await;
    let listed = world.network.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].uid.as_ref(), Some(&pod.request.uid));
    world.network.detach(&pod.request.uid).await.unwrap();
    world.network.detach(&pod.request.uid).await.unwrap();
    assert_eq!(world.network.list().await.unwrap(), []);
    let mut node = Netlink::open_in(&world.node).unwrap();
    assert!(!node.routes().unwrap().iter().any(|route| route.destination.0 == ip("10.1.0.2")));
    let observed = world.network.observe(&pod.request.uid, &pod.request.netns).await.unwrap();
    assert_eq!((observed.host, observed.pod), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pods_at_once() {
    let world = World::new().await;
    let mut requests = Vec::new();
    for number in 0..50 {
        requests.push(AttachRequest {
            uid: PodUid::new(format!("pod-{number}")).unwrap(),
            netns: Netns::create().unwrap(),
            addresses: vec![format!("10.1.1.{number}").parse().unwrap()],
            mtu: MTU,
        });
    }
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for request in requests.clone() {
        let network = world.network.clone();
        tasks.spawn(async move { network.attach(&request).await.map(drop) });
    }
    for done in tasks.join_all().await {
        done.unwrap();
    }
    println!("50 pods attached in {:?}", start.elapsed());
    echo(&requests[0].netns, &requests[49].netns, "10.1.1.49");
}

#[tokio::test]
async fn an_uplink_keeps_taking_router_advertisements() {
    let (node, outside) = (Netns::create().unwrap(), Netns::create().unwrap());
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let uplink =
        VethPair { name: "up.0", mac: mac(1), peer_name: "x", peer_mac: mac(2), peer_netns: &outside, mtu: MTU };
    Netlink::open_in(&node).unwrap().apply(vec![Request::create_veth(&uplink)]).unwrap();
    assert_eq!(read_sysctl(&node, "net/ipv6/conf/up.0/accept_ra").unwrap(), "1");
    let network = PodNetwork::open(node.clone()).unwrap();
    network.prepare_node().await.unwrap();
    for (key, value) in [("ipv6/conf/up.0/accept_ra", "2"), ("ipv6/conf/all/forwarding", "1"), ("ipv4/ip_forward", "1")]
    {
        assert_eq!(read_sysctl(&node, &format!("net/{key}")).unwrap(), value, "{key}");
    }
}

/// With one family, the other is silent: nothing was sent that the test did not send.
#[tokio::test]
async fn a_new_link_has_counted_nothing() {
    let world = World::new().await;
    let pod = world.pod("quiet", &["10.1.0.2"]).await;
    let count = || {
        let link = Netlink::open_in(&world.node).unwrap().link(&pod.attached.host_name).unwrap().unwrap();
        (link.stats.rx_packets, link.stats.tx_packets)
    };
    assert_eq!(count(), (0, 0));
    echo(&world.node, &pod.request.netns, "10.1.0.2");
    let (received, sent) = count();
    assert!(received > 0 && sent > 0);
}

#[tokio::test]
async fn a_refused_step_names_pod_and_request() {
    let world = World::new().await;
    let request = AttachRequest {
        uid: PodUid::new("bad").unwrap(),
        netns: Netns::create().unwrap(),
        addresses: ips(&["10.1.0.2"]),
        mtu: 20,
    };
    let error = world.network.attach(&request).await.unwrap_err();
    assert!(error.to_string().starts_with("pod bad: host side"), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("make veth"), "{source}");
}
