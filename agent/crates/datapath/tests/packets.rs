//! The tc programs on frames built by hand, compared to the byte.

mod world;

use orlop_datapath::{Datapath, DropReason, Error, Program};
use orlop_model::Ifindex;
use orlop_model::Protocol::{Tcp, Udp};
use world::World;
use world::frame::Frame;
use world::service::{Service, apply};

const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;
const MAC_A: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]];
const MAC_B: [[u8; 6]; 2] = [[2, 0, 0, 0, 2, 2], [2, 0, 0, 0, 1, 2]];

/// Runs one frame; on a drop its reason is the only one that rises, by one.
fn check(world: &World, program: Program, device: Ifindex, frame: &[u8], wanted: Result<(i32, &[u8]), DropReason>) {
    let drops = |datapath: &Datapath| {
        let all = datapath.pod_counters().unwrap();
        let found = all.into_iter().find(|(index, _)| *index == device).unwrap().1;
        let egress = matches!(program, Program::PodTo | Program::UplinkOut);
        if egress { found.drops_to } else { found.drops_from }
    };
    let mut before = drops(world.datapath());
    let (verdict, bytes) = world.datapath().dry_run(program, device, frame).unwrap();
    match wanted {
        Ok((wanted, frame)) => assert_eq!((verdict, bytes.as_slice()), (wanted, frame), "{program}"),
        Err(reason) => {
            assert_eq!(verdict, SHOT, "{program} {}", reason.name());
            *before.entry(reason).or_default() += 1;
        }
    }
    assert_eq!(drops(world.datapath()), before, "{program}");
}

/// Runs one frame that is dropped for a reason and whose sender is told: the answer.
fn answered(world: &World, device: Ifindex, frame: &[u8], reason: DropReason) -> Vec<u8> {
    let drops = || {
        let all = world.datapath().pod_counters().unwrap();
        all.into_iter().find(|(index, _)| *index == device).unwrap().1.drops_from
    };
    let mut before = drops();
    let (verdict, bytes) = world.datapath().dry_run(Program::UplinkIn, device, frame).unwrap();
    assert_eq!(verdict, REDIRECT);
    *before.entry(reason).or_default() += 1;
    assert_eq!(drops(), before);
    bytes
}

fn uplink_mac(frame: Frame) -> Frame {
    let text = std::fs::read_to_string("/sys/class/net/uplink0/address");
    let output = std::process::Command::new("ip").args(["-br", "link", "show", "uplink0"]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let mac = line.split_whitespace().nth(2).map(str::to_owned).or(text.ok()).unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    frame.macs(bytes.try_into().unwrap(), [2, 0, 0, 0, 7, 7])
}

#[test]
fn node_port_rewrites_are_right_to_the_byte() {
    World::run("rewrite", |world| {
        let _pod = world.pod(2);
        let _outside = world.outside();
        let uplink = world::ifindex("uplink0");
        apply(
            world.datapath(),
            &[
                Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080),
                Service::new(2, Tcp, "[fd96::1]:80", &[(2, "[fd01::2]:8080")]).node_port(30080),
                Service::new(3, Udp, "10.96.0.1:53", &[(3, "10.1.0.2:5353")]).node_port(30053),
                Service::new(4, Udp, "[fd96::1]:53", &[(4, "[fd01::2]:5353")]).node_port(30053),
            ],
        );
        let no_checksum = |frame: Frame| Frame { udp_checksum: false, ..frame };
        let long = |frame: Frame| Frame { extension_headers: 2, ..frame };
        let cases = [
            (Frame::syn("192.0.2.1:4000", "192.0.2.2:30080", 1), "10.1.0.2:8080"),
            (Frame::syn("[2001:db8::1]:4000", "[2001:db8::2]:30080", 1), "[fd01::2]:8080"),
            (Frame::udp("192.0.2.1:4000", "192.0.2.2:30053"), "10.1.0.2:5353"),
            (no_checksum(Frame::udp("192.0.2.1:4001", "192.0.2.2:30053")), "10.1.0.2:5353"),
            (Frame::udp("[2001:db8::1]:4000", "[2001:db8::2]:30053"), "[fd01::2]:5353"),
            (long(Frame::udp("[2001:db8::1]:4001", "[2001:db8::2]:30053")), "[fd01::2]:5353"),
        ];
        for (frame, backend) in cases {
            let frame = uplink_mac(frame);
            let there = frame.clone().dst(backend).macs(MAC_B[0], MAC_B[1]).bytes();
            check(world, Program::UplinkIn, uplink, &frame.bytes(), Ok((REDIRECT, &there)));
            // The same again, as a retransmission, goes the same way.
            check(world, Program::UplinkIn, uplink, &frame.bytes(), Ok((REDIRECT, &there)));
            let (client, node) = (frame.src.to_string(), frame.dst.to_string());
            let reply = Frame { tcp_flags: 0x12, ..frame.clone() };
            let from_pod = reply.clone().src(backend).dst(&client).bytes();
            let back = reply.src(&node).dst(&client).bytes();
            check(world, Program::UplinkOut, uplink, &from_pod, Ok((NEXT, &back)));
        }
        let counted = world.datapath().service_counters().unwrap();
        let connections: Vec<u64> = counted.iter().map(|(_, counters)| counters.connections).collect();
        assert_eq!(connections, [1, 1, 2, 2]);
    });
}

#[test]
fn uplinks_pass_what_is_not_theirs_and_name_what_they_drop() {
    World::run("uplink", |world| {
        let _pod = world.pod(2);
        let _outside = world.outside();
        let uplink = world::ifindex("uplink0");
        apply(
            world.datapath(),
            &[
                Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080),
                Service::new(2, Tcp, "10.96.0.2:80", &[(2, "10.2.0.2:8080")]).node_port(30081),
                Service::new(3, Tcp, "10.96.0.3:80", &[]).node_port(30082),
                Service::new(4, Tcp, "10.96.0.4:80", &[(1, "10.1.0.2:8080")]).node_port(30083),
            ],
        );
        let syn = |dst: &str| uplink_mac(Frame::syn("192.0.2.1:4000", dst, 9));
        let ack = Frame { tcp_flags: 0x10, ..syn("192.0.2.2:30080") };
        let elsewhere = syn("192.0.2.9:30080");
        let other = syn("192.0.2.2:22");
        for frame in [ack, elsewhere, other].map(|frame| frame.bytes()) {
            check(world, Program::UplinkIn, uplink, &frame, Ok((NEXT, &frame)));
            check(world, Program::UplinkOut, uplink, &frame, Ok((NEXT, &frame)));
        }
        check(world, Program::UplinkIn, uplink, &syn("192.0.2.2:30081").bytes(), Err(DropReason::NoRoute));
        // A service without backends refuses at once: the frame is turned into a reset.
        let refused = syn("192.0.2.2:30082");
        let reset = answered(world, uplink, &refused.bytes(), DropReason::NoBackend);
        let ack = (refused.seq + 1).to_be_bytes();
        assert_eq!((&reset[26..34], &reset[42..46], reset[47]), (&[192, 0, 2, 2, 192, 0, 2, 1][..], &ack[..], 0x14));
        // One client port, two node ports, one backend: the second is refused as
        // long as the first lives.
        let there = syn("192.0.2.2:30080").dst("10.1.0.2:8080").macs(MAC_B[0], MAC_B[1]).bytes();
        check(world, Program::UplinkIn, uplink, &syn("192.0.2.2:30080").bytes(), Ok((REDIRECT, &there)));
        check(world, Program::UplinkIn, uplink, &syn("192.0.2.2:30083").bytes(), Err(DropReason::NatCollision));
        let reset = Frame { tcp_flags: 4, ..syn("192.0.2.2:30080") };
        let reset_there = Frame { tcp_flags: 4, ..reset.clone().dst("10.1.0.2:8080").macs(MAC_B[0], MAC_B[1]) };
        check(world, Program::UplinkIn, uplink, &reset.bytes(), Ok((REDIRECT, &reset_there.bytes())));
        check(world, Program::UplinkIn, uplink, &syn("192.0.2.2:30083").bytes(), Ok((REDIRECT, &there)));
    });
}

#[test]
fn pods_frames_are_judged() {
    World::run("judge", |world| {
        let (a, _b) = (world.pod(1), world.pod(2));
        let from = |frame: Frame| frame.macs(MAC_A[0], MAC_A[1]);
        let to_b = from(Frame::udp("10.1.0.1:9", "10.1.0.2:9"));
        let there = to_b.clone().macs(MAC_B[0], MAC_B[1]).bytes();
        let to_b6 = Frame { extension_headers: 6, ..from(Frame::udp("[fd01::1]:9", "[fd01::2]:9")) };
        let there6 = to_b6.clone().macs(MAC_B[0], MAC_B[1]).bytes();
        let away = from(Frame::udp("10.1.0.1:9", "198.51.100.1:9")).bytes();
        let mut arp =
            [&MAC_A.concat()[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &MAC_A[1], &[10, 1, 0, 1], &[0; 10]].concat();
        let check = |frame: &[u8], wanted: Result<(i32, &[u8]), DropReason>| {
            check(world, Program::PodFrom, a.host, frame, wanted)
        };
        check(&to_b.bytes(), Ok((REDIRECT, &there)));
        check(&to_b6.bytes(), Ok((REDIRECT, &there6)));
        check(&away, Ok((NEXT, &away)));
        check(&arp, Ok((NEXT, &arp.clone())));
        arp[31] = 2;
        check(&arp, Err(DropReason::SourceSpoofed));
        check(&from(Frame::udp("10.1.0.2:9", "10.1.0.2:9")).bytes(), Err(DropReason::SourceSpoofed));
        check(&from(Frame::udp("[fe80::1]:9", "[fd01::2]:9")).bytes(), Err(DropReason::SourceSpoofed));
        let many = Frame { extension_headers: 7, ..to_b6 };
        check(&many.bytes(), Err(DropReason::ExtensionHeaders));
        check(&to_b.bytes()[..38], Err(DropReason::Malformed));
        let mut short_header = to_b.bytes();
        short_header[14] = 0x44;
        check(&short_header, Err(DropReason::Malformed));
        let mut unknown = to_b.bytes();
        unknown[12..14].copy_from_slice(&[0x88, 0xcc]);
        check(&unknown, Err(DropReason::UnknownEthertype));
        // A later fragment has no ports and follows its addresses.
        let later = Frame { fragment: 100, ..to_b };
        check(&later.bytes(), Ok((REDIRECT, &later.clone().macs(MAC_B[0], MAC_B[1]).bytes())));
    });
}

#[test]
fn pins_of_another_layout_are_refused_with_their_path() {
    World::run("layout", |world| {
        world.datapath = None;
        let maps = world.config.bpf_dir.join("maps");
        std::fs::rename(maps.join("PODS"), maps.join("aside")).unwrap();
        std::fs::rename(maps.join("SLOTS"), maps.join("PODS")).unwrap();
        let err = Datapath::open(&world.config).unwrap_err();
        let Error::IncompatibleMap { pin, folder, .. } = err else { panic!("{err}") };
        assert_eq!((pin, folder), (maps.join("PODS"), world.config.bpf_dir.clone()));
    });
}

#[test]
fn a_folder_that_is_not_on_bpffs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = orlop_datapath::Config { bpf_dir: folder.path().join("orlop"), ..Default::default() };
    let err = Datapath::open(&config).unwrap_err();
    assert!(matches!(&err, Error::NoBpffs { path } if *path == config.bpf_dir), "{err}");
}
