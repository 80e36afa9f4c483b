//! What becomes of frames between a client outside, this node and others, to the byte.

mod world;

use orlop_datapath::{DropReason, NodeDevice, NodeSettings, Program};
use orlop_ebpf_abi::FrontendFlags;
use orlop_model::Ifindex;
use orlop_model::Protocol::{Sctp, Tcp, Udp};
use world::World;
use world::frame::Frame;
use world::service::{Service, apply};

const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;
const SYN_ACK: u8 = 0x12;
/// The one source port of the node.
const PORT: u16 = 61_000;

/// The node 192.0.2.2 and 2001:db8::2, with another one behind 192.0.2.3 and
/// 2001:db8::3, and one source port a destination.
struct Node<'a> {
    world: &'a World,
    uplink: Ifindex,
    mac: [u8; 6],
    _outside: world::Netns,
}

impl<'a> Node<'a> {
    fn new(world: &'a World) -> Self {
        let outside = world.outside();
        world::ip("link set uplink0 address 02:00:00:00:05:05");
        let uplink = world::ifindex("uplink0");
        for way in ["10.2.0.0/24 via 192.0.2.3", "198.51.100.0/24 via 192.0.2.1"] {
            world::ip(&format!("route add {way}"));
        }
        for way in ["fd02::/64 via 2001:db8::3", "2001:db8:c::/64 via 2001:db8::1"] {
            world::ip(&format!("-6 route add {way}"));
        }
        let mac = [2, 0, 0, 0, 5, 5];
        let device = NodeDevice {
            device: uplink,
            snat_v4: Some("192.0.2.2".parse().unwrap()),
            snat_v6: Some("2001:db8::2".parse().unwrap()),
            mac,
            mtu: 1500,
            is_tunnel: false,
            answers_neighbours: true,
        };
        let datapath = world.datapath();
        datapath.set_devices(&[device]).unwrap();
        datapath.set_settings(&NodeSettings { masquerade: true, snat_port_first: PORT, snat_ports: 1 }).unwrap();
        datapath.set_non_masquerade(&["10.1.0.0/16".parse().unwrap(), "fd01::/64".parse().unwrap()]).unwrap();
        let own = ["192.0.2.2", "2001:db8::2"].map(|addr| (addr.parse().unwrap(), true));
        datapath.set_node_addrs(&own, &["192.0.2.3".parse().unwrap()]).unwrap();
        Self { world, uplink, mac, _outside: outside }
    }

    /// A frame for the node.
    fn arriving(&self, frame: Frame) -> Frame {
        frame.macs(self.mac, [2, 0, 0, 0, 7, 7])
    }

    #[track_caller]
    fn check(&self, program: Program, frame: &Frame, verdict: i32, becomes: &Frame) {
        self.check_on(self.uplink, program, frame, verdict, becomes);
    }

    #[track_caller]
    fn check_on(&self, device: Ifindex, program: Program, frame: &Frame, verdict: i32, becomes: &Frame) {
        let (found, bytes) = self.world.datapath().dry_run(program, device, &frame.bytes()).unwrap();
        assert_eq!((found, bytes), (verdict, becomes.bytes()), "{program} {} to {}", frame.src, frame.dst);
    }

    fn drops(&self, reason: DropReason) -> u64 {
        let all = self.world.datapath().pod_counters().unwrap();
        let found = all.into_iter().find(|(index, _)| *index == self.uplink).unwrap().1;
        found.drops_from.get(&reason).copied().unwrap_or(0)
    }
}

fn services(flags: u32) -> Vec<Service> {
    vec![
        Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.2.0.2:8080")]).node_port_with(30080, flags),
        Service::new(2, Tcp, "[fd96::1]:80", &[(2, "[fd02::2]:8080")]).node_port_with(30080, flags),
        Service::new(3, Udp, "10.96.0.1:53", &[(3, "10.2.0.2:5353")]).node_port_with(30053, flags),
        Service::new(4, Udp, "[fd96::1]:53", &[(4, "[fd02::2]:5353")]).node_port_with(30053, flags),
    ]
}

fn clients() -> [Frame; 5] {
    [
        Frame::syn("198.51.100.1:4000", "192.0.2.2:30080", 1),
        Frame::syn("[2001:db8:c::1]:4000", "[2001:db8::2]:30080", 1),
        Frame::udp("198.51.100.1:4001", "192.0.2.2:30053"),
        Frame { udp_checksum: false, ..Frame::udp("198.51.100.1:4001", "192.0.2.2:30053") },
        Frame::udp("[2001:db8:c::1]:4001", "[2001:db8::2]:30053"),
    ]
}

#[test]
fn both_ends_are_replaced_on_the_way_to_another_node() {
    World::run("snat", |world| {
        let node = Node::new(world);
        apply(world.datapath(), &services(0));
        for frame in clients() {
            let frame = node.arriving(frame);
            let family = if frame.src.is_ipv4() { "192.0.2.2" } else { "[2001:db8::2]" };
            let (backend, port) =
                (if frame.src.is_ipv4() { "10.2.0.2" } else { "[fd02::2]" }, frame.dst.port() / 30_000);
            let port = if frame.proto == 6 { 8080 * port } else { 5353 * port };
            let (source, backend) = (format!("{family}:{PORT}"), format!("{backend}:{port}"));
            // One hop further, by the kernel's route; again, the same.
            let there = Frame { ttl: 63, ..frame.clone().src(&source).dst(&backend) };
            node.check(Program::UplinkIn, &frame, REDIRECT, &there);
            node.check(Program::UplinkIn, &frame, REDIRECT, &there);
            // As it leaves it is left alone.
            node.check(Program::UplinkOut, &there, NEXT, &there);
            let (client, asked) = (frame.src.to_string(), frame.dst.to_string());
            let reply = node.arriving(Frame { tcp_flags: SYN_ACK, ..frame.clone() }).src(&backend).dst(&source);
            let back = Frame { ttl: 63, ..reply.clone().src(&asked).dst(&client) };
            node.check(Program::UplinkIn, &reply, REDIRECT, &back);
            node.check(Program::UplinkOut, &back, NEXT, &back);
        }
        // Another client of the same backend finds no port.
        let other = node.arriving(Frame::syn("198.51.100.9:4000", "192.0.2.2:30080", 1));
        let (verdict, _) = world.datapath().dry_run(Program::UplinkIn, node.uplink, &other.bytes()).unwrap();
        assert_eq!((verdict, node.drops(DropReason::SnatPortsExhausted)), (SHOT, 1));
    });
}

#[test]
fn direct_return_changes_nothing_but_the_hop_count() {
    World::run("dsr", |world| {
        let node = Node::new(world);
        apply(world.datapath(), &services(FrontendFlags::DSR));
        for frame in clients() {
            let frame = node.arriving(frame);
            let there = Frame { ttl: 63, ..frame.clone() };
            node.check(Program::UplinkIn, &frame, REDIRECT, &there);
            node.check(Program::UplinkOut, &there, NEXT, &there);
            // A packet of a connection that this node has forgotten goes to the same node.
            let later =
                Frame { tcp_flags: 0x10, ..node.arriving(frame.clone().src(&format!("{}:4999", host(&frame)))) };
            node.check(Program::UplinkIn, &later, REDIRECT, &Frame { ttl: 63, ..later.clone() });
            let last = Frame { ttl: 1, ..frame };
            let (verdict, _) = world.datapath().dry_run(Program::UplinkIn, node.uplink, &last.bytes()).unwrap();
            assert_eq!(verdict, SHOT);
        }
        assert_eq!(node.drops(DropReason::NoRoute), 5);
    });
}

fn host(frame: &Frame) -> String {
    let ip = frame.src.ip();
    if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") }
}

#[test]
fn a_node_takes_what_another_one_forwards_for_its_own_backends() {
    World::run("peer", |world| {
        let _pod = world.pod(2);
        let node = Node::new(world);
        let service = Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080"), (2, "10.2.0.2:8080")]);
        apply(world.datapath(), &[service.node_port_with(30080, FrontendFlags::DSR).sets(1, 0)]);
        for port in 4000..4008 {
            // 192.0.2.3 is the other node's.
            let client = format!("198.51.100.1:{port}");
            let frame = node.arriving(Frame::syn(&client, "192.0.2.3:30080", 1));
            let there = frame.clone().dst("10.1.0.2:8080").macs([2, 0, 0, 0, 2, 2], [2, 0, 0, 0, 1, 2]);
            node.check(Program::UplinkIn, &frame, REDIRECT, &there);
            let reply = Frame { tcp_flags: SYN_ACK, ..node.arriving(Frame::syn("10.1.0.2:8080", &client, 5)) };
            let back = reply.clone().src("192.0.2.3:30080");
            node.check(Program::UplinkOut, &reply, NEXT, &back);
        }
    });
}

#[test]
fn a_pods_own_connections_get_the_nodes_address_outside_only() {
    World::run("masq", |world| {
        let pod = world.pod(1);
        let node = Node::new(world);
        let opened = [
            (Frame::syn("10.1.0.1:4000", "198.51.100.1:80", 1), "192.0.2.2"),
            (Frame::syn("[fd01::1]:4000", "[2001:db8:c::1]:80", 1), "[2001:db8::2]"),
            (Frame::udp("10.1.0.1:4000", "198.51.100.1:53"), "192.0.2.2"),
            (Frame::udp("[fd01::1]:4000", "[2001:db8:c::1]:53"), "[2001:db8::2]"),
        ];
        for (frame, addr) in opened {
            let (from, to, source) = (frame.src.to_string(), frame.dst.to_string(), format!("{addr}:{PORT}"));
            let frame = frame.macs([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]);
            node.check_on(pod.host, Program::PodFrom, &frame, NEXT, &frame);
            let out = frame.clone().src(&source);
            node.check(Program::UplinkOut, &frame, NEXT, &out);
            node.check(Program::UplinkOut, &frame, NEXT, &out);
            let reply = node.arriving(Frame { tcp_flags: SYN_ACK, ..frame }).src(&to).dst(&source);
            let back = reply.clone().dst(&from).macs([2, 0, 0, 0, 2, 1], [2, 0, 0, 0, 1, 1]);
            node.check(Program::UplinkIn, &reply, REDIRECT, &back);
        }
        let kept = [
            // Inside; answers to a client outside; a connection that is not known; multicast.
            Frame::syn("10.1.0.1:4000", "10.1.9.9:80", 1),
            Frame { tcp_flags: SYN_ACK, ..Frame::syn("10.1.0.1:80", "198.51.100.1:4000", 1) },
            Frame { tcp_flags: 0x10, ..Frame::syn("10.1.0.1:4001", "198.51.100.1:80", 1) },
            Frame::udp("10.1.0.1:4000", "224.0.0.251:5353"),
            // The node's own.
            Frame::syn("192.0.2.2:4000", "198.51.100.1:80", 1),
        ];
        for frame in kept {
            node.check(Program::UplinkOut, &frame, NEXT, &frame);
        }
    });
}

#[test]
fn what_does_not_fit_the_way_is_answered_with_its_size() {
    World::run("toobig", |world| {
        let node = Node::new(world);
        world::ip("link set uplink0 mtu 1400");
        apply(world.datapath(), &services(0));
        let frame = Frame { payload: vec![7; 1400], ..Frame::udp("198.51.100.1:4001", "192.0.2.2:30053") };
        let frame = node.arriving(frame).bytes();
        let (verdict, bytes) = world.datapath().dry_run(Program::UplinkIn, node.uplink, &frame).unwrap();
        // Destination unreachable, fragmentation needed, 1400; about the packet as it came.
        assert_eq!((verdict, &bytes[34..36], &bytes[40..42]), (REDIRECT, &[3, 4][..], &1400_u16.to_be_bytes()[..]));
        assert_eq!((&bytes[26..34], &bytes[54..62]), (&[192, 0, 2, 2, 198, 51, 100, 1][..], &frame[26..34]));
        assert_eq!(node.drops(DropReason::TooBig), 1);
    });
}

#[test]
fn errors_are_about_the_packet_that_their_receiver_sent() {
    World::run("errors", |world| {
        let node = Node::new(world);
        apply(world.datapath(), &services(0));
        let asked = node.arriving(Frame::udp("198.51.100.1:4001", "192.0.2.2:30053"));
        let sent = Frame { ttl: 63, ..asked.clone().src("192.0.2.2:61000").dst("10.2.0.2:5353") };
        node.check(Program::UplinkIn, &asked, REDIRECT, &sent);
        // The backend's port is closed: the client hears of the NodePort's.
        let error = sent.error([10, 2, 0, 2], [3, 3, 0, 0]);
        let frame = [&node.mac[..], &[2, 0, 0, 0, 7, 7], &error].concat();
        let (verdict, bytes) = world.datapath().dry_run(Program::UplinkIn, node.uplink, &frame).unwrap();
        let asked = Frame { ttl: 63, ..asked };
        let mut wanted = asked.error([192, 0, 2, 2], [3, 3, 0, 0]);
        world::frame::age(&mut wanted);
        assert_eq!((verdict, &bytes[12..]), (REDIRECT, &wanted[..]));
        // The client's link is narrow: the backend hears of its own packet.
        let answer = Frame::udp("192.0.2.2:30053", "198.51.100.1:4001");
        let error = answer.error([198, 51, 100, 254], [3, 4, 0x05, 0x14]);
        let frame = [&node.mac[..], &[2, 0, 0, 0, 7, 7], &error].concat();
        let (verdict, bytes) = world.datapath().dry_run(Program::UplinkIn, node.uplink, &frame).unwrap();
        let mut wanted =
            answer.src("10.2.0.2:5353").dst("192.0.2.2:61000").error([198, 51, 100, 254], [3, 4, 0x05, 0x14]);
        world::frame::age(&mut wanted);
        assert_eq!((verdict, &bytes[12..]), (REDIRECT, &wanted[..]));
    });
}

#[test]
fn clients_outside_the_ranges_and_traffic_beyond_the_rate_are_dropped() {
    World::run("ranges", |world| {
        let pod = world.pod(2);
        let node = Node::new(world);
        let service = Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).sets(1, 0);
        let outer = service.at("203.0.113.5:80", FrontendFlags::EXTERNAL).range("198.51.100.0", 25);
        apply(world.datapath(), &[outer]);
        let from = |client: &str| node.arriving(Frame::syn(client, "203.0.113.5:80", 1));
        let there = from("198.51.100.1:4000").dst("10.1.0.2:8080").macs([2, 0, 0, 0, 2, 2], [2, 0, 0, 0, 1, 2]);
        node.check(Program::UplinkIn, &from("198.51.100.1:4000"), REDIRECT, &there);
        let stranger = from("198.51.100.200:4000").bytes();
        let (verdict, _) = world.datapath().dry_run(Program::UplinkIn, node.uplink, &stranger).unwrap();
        assert_eq!((verdict, node.drops(DropReason::SourceRange)), (SHOT, 1));

        // Both ways of the pod: what it sends, and what is delivered to it.
        world.datapath().set_bandwidth(pod.host, Some(1_000), Some(1_000)).unwrap();
        let payload = vec![7; 1400];
        let sent = Frame { payload: payload.clone(), ..Frame::udp("10.1.0.2:9", "198.51.100.1:9") }.bytes();
        let ack = Frame { payload, tcp_flags: 0x10, ..from("198.51.100.1:4000") }.bytes();
        for _ in 0..200 {
            world.datapath().dry_run(Program::PodFrom, pod.host, &sent).unwrap();
            world.datapath().dry_run(Program::UplinkIn, node.uplink, &ack).unwrap();
        }
        let all = world.datapath().pod_counters().unwrap();
        let counted = &all.iter().find(|(index, _)| *index == pod.host).unwrap().1;
        assert!(counted.drops_from[&DropReason::Bandwidth] > 50, "{counted:?}");
        assert!(counted.drops_to[&DropReason::Bandwidth] > 50, "{counted:?}");
    });
}

/// An SCTP packet with one INIT (1) or INIT ACK (2) chunk.
fn sctp(macs: [[u8; 6]; 2], ttl: u8, [src, dst]: [&str; 2], chunk: u8) -> Vec<u8> {
    let [src, dst]: [std::net::SocketAddrV4; 2] = [src.parse().unwrap(), dst.parse().unwrap()];
    let tag = if chunk == 1 { [0; 4] } else { [1, 2, 3, 4] };
    let init = [[chunk, 0, 0, 20], [1, 2, 3, 4], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 9]].concat();
    let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    let mut packet = [&ports[..], &tag, &[0; 4], &init].concat();
    // RFC 9260 appendix A: CRC32c, the lowest byte first.
    let sum = packet.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    });
    packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    world::frame::ipv4(macs, ttl, 132, [*src.ip(), *dst.ip()], &packet)
}

#[test]
fn sctp_is_translated_with_its_checksum() {
    World::run("sctp", |world| {
        let node = Node::new(world);
        apply(world.datapath(), &[Service::new(1, Sctp, "10.96.0.1:80", &[(1, "10.2.0.2:8080")]).node_port(30080)]);
        let macs = [node.mac, [2, 0, 0, 0, 7, 7]];
        let check = |ttl, ends, chunk, becomes| {
            let frame = sctp(macs, 64, ends, chunk);
            let found = world.datapath().dry_run(Program::UplinkIn, node.uplink, &frame).unwrap();
            assert_eq!(found, (REDIRECT, sctp(macs, ttl, becomes, chunk)));
        };
        let (client, asked) = ("198.51.100.1:4000", "192.0.2.2:30080");
        let (source, backend) = ("192.0.2.2:61000", "10.2.0.2:8080");
        check(63, [client, asked], 1, [source, backend]);
        check(63, [backend, source], 2, [asked, client]);
    });
}
