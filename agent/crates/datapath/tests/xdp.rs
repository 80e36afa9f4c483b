//! XDP on uplinks: to the byte, and with real sockets.

mod world;

use orlop_datapath::{Acceleration, FlowEntry, Program};
use orlop_ebpf_abi::FrontendFlags;
use orlop_model::Protocol::{Tcp, Udp};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use world::frame::Frame;
use world::nodes::{Cluster, Way};
use world::peers::{ask_udp, fetch, serve_tcp, serve_udp, udp_socket};
use world::service::Service;
use world::{Netns, World};

/// `XDP_PASS`, `XDP_TX`.
const PASS: i32 = 2;
const TX: i32 = 3;
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Has a device of the calling thread's namespace send whole checksums, as wires have them:
/// a veth would hand partial ones over, which no XDP program is told of.
fn whole_checksums(device: &str) {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let value = Value { command: ETHTOOL_STXCSUM, data: 0 };
    // SAFETY: all of it is numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw const value).cast_mut().cast();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: the request and its value live through the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    assert_eq!(done, 0, "{device}: {}", std::io::Error::last_os_error());
}

/// Two nodes; pod 2 of node 2 is behind NodePort 30080 in both families.
fn cluster(world: &World, flags: u32) -> (Cluster, Netns) {
    let cluster = Cluster::new(world, 2, Way::Direct);
    cluster.client.run(|| whole_checksums("eth0"));
    cluster.router.run(|| ["client", "node1", "node2"].map(whole_checksums));
    for node in &cluster.nodes {
        node.ns.run(|| whole_checksums("uplink0"));
    }
    let pod = cluster.node(2).pod(2);
    pod.run(|| whole_checksums("eth0"));
    for addr in ["10.1.2.2:8080", "[fd01:2::2]:8080"] {
        serve_tcp(&pod, addr, "b");
        serve_udp(&pod, addr, "b");
    }
    cluster.serve(|node| {
        let service = |number, proto, addr: &str, backend: &str| {
            let service = Service::new(number, proto, addr, &[(number, backend)]);
            service.node_port_with(30080, flags).sets(u32::from(node == 2), 0)
        };
        vec![
            service(1, Tcp, "10.96.0.1:80", "10.1.2.2:8080"),
            service(2, Tcp, "[fd96::1]:80", "[fd01:2::2]:8080"),
            service(3, Udp, "10.96.0.1:80", "10.1.2.2:8080"),
            service(4, Udp, "[fd96::1]:80", "[fd01:2::2]:8080"),
        ]
    });
    (cluster, pod)
}

/// The original entry of the flow from this client at node 1.
fn flow_of(cluster: &Cluster, client: SocketAddr) -> FlowEntry {
    let flows = cluster.node(1).datapath().flows(orlop_datapath::monotonic_s(), 1_000).unwrap();
    flows.into_iter().find(|flow| flow.initiator == client && !flow.is_reverse).expect("the client's flow")
}

/// What the program makes of a frame on node 1's uplink. One packet a second is for the
/// other programs, so the client first speaks the usual way until this one is not.
fn run(cluster: &Cluster, frame: &Frame, speak: impl Fn()) -> (i32, Vec<u8>) {
    let node = cluster.node(1);
    for _ in 0..100 {
        speak();
        let done = node.ns.run(|| node.datapath().dry_run(Program::UplinkXdp, node.uplink, &frame.bytes()).unwrap());
        if done.0 != PASS {
            return done;
        }
    }
    panic!("the program passes every packet of a known flow on");
}

/// Hardware address of a device of the calling thread's namespace.
fn mac_of(device: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", device]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    let bytes = words.nth(1).expect("an Ethernet address").split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    bytes.collect::<Vec<u8>>().try_into().unwrap()
}

#[test]
fn known_flows_are_sent_on_right_to_the_byte() {
    World::run("xdp-bytes", |world| {
        let (cluster, _pod) = cluster(world, 0);
        let [own, backend] = [1, 2].map(|node| cluster.node(node).ns.run(|| mac_of("uplink0")));
        for (front, bind, target) in
            [("192.0.2.11:30080", "0.0.0.0:0", "10.1.2.2:8080"), ("[2001:db8::1]:30080", "[::]:0", "[fd01:2::2]:8080")]
        {
            let socket = cluster.client.run(|| udp_socket(bind));
            let speak = || assert_eq!(cluster.client.run(|| ask_udp(&socket, front, "question").0), "b question");
            speak();
            let client = if front.starts_with('[') { "2001:db8:c::1" } else { "198.51.100.1" };
            let client = SocketAddr::new(client.parse().unwrap(), socket.local_addr().unwrap().port());
            let snat = flow_of(&cluster, client).snat.expect("a source of the node's");
            let frame = Frame::udp(&client.to_string(), front);
            let (verdict, out) = run(&cluster, &frame, speak);
            let wanted = Frame { ttl: 63, ..frame.clone() }.src(&snat.to_string()).dst(target).macs(backend, own);
            assert_eq!((verdict, out), (TX, wanted.bytes()), "to {front}");
            // What is not known, or not simple, passes as it is.
            for other in [
                Frame { ttl: 1, ..frame.clone() },
                Frame { fragment: 0x2000, ..frame.clone() },
                frame.clone().dst("192.0.2.11:30081"),
                Frame::syn("198.51.100.1:40000", "192.0.2.11:30080", 7),
            ] {
                if other.src.is_ipv4() || other.fragment == 0 {
                    let node = cluster.node(1);
                    let run = || node.datapath().dry_run(Program::UplinkXdp, node.uplink, &other.bytes()).unwrap();
                    assert_eq!(node.ns.run(run), (PASS, other.bytes()));
                }
            }
        }
    });
}

fn sockets(name: &'static str, wanted: Acceleration, flags: u32) {
    World::run(name, move |world| {
        let (cluster, _pod) = cluster(world, flags);
        for node in &cluster.nodes {
            let kind = node.ns.run(|| node.datapath().accelerate_uplink(node.uplink, wanted).unwrap());
            assert_eq!(kind, wanted);
        }
        for (front, bind) in [("192.0.2.11:30080", "0.0.0.0:0"), ("[2001:db8::1]:30080", "[::]:0")] {
            fetch(&cluster.client, front, 300_000);
            cluster.client.run(|| {
                let socket = udp_socket(bind);
                for _ in 0..50 {
                    assert_eq!(ask_udp(&socket, front, "question").0, "b question");
                }
            });
        }
        for node in &cluster.nodes {
            let counters = node.uplink_counters();
            assert!(counters.drops_from.is_empty() && counters.drops_to.is_empty(), "{counters:?}");
        }
    });
}

#[test]
fn sockets_through_generic_xdp() {
    sockets("xdp-generic", Acceleration::Generic, 0);
}

#[test]
fn sockets_through_generic_xdp_with_direct_return() {
    sockets("xdp-dsr", Acceleration::Generic, FrontendFlags::DSR);
}

#[test]
fn a_driver_that_can_has_the_program_in_it() {
    World::run("xdp-native", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let node = cluster.node(1);
        let attach = |wanted| node.ns.run(|| node.datapath().accelerate_uplink(node.uplink, wanted).unwrap());
        let shown = || {
            let output = node.ns.run(|| std::process::Command::new("ip").args(["link", "show", "uplink0"]).output());
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        for (wanted, kind, word) in [
            (Acceleration::Native, Acceleration::Native, " xdp "),
            (Acceleration::Generic, Acceleration::Generic, " xdpgeneric "),
            (Acceleration::BestEffort, Acceleration::Native, " xdp "),
        ] {
            assert_eq!(attach(wanted), kind);
            assert!(shown().contains(word), "{}", shown());
        }
        assert_eq!(attach(Acceleration::Disabled), Acceleration::Disabled);
        assert!(!shown().contains(" xdp"));
    });
}
