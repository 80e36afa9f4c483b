//! Nanoseconds a packet, of each program on each way that a packet takes through it, and the programs' sizes.
//! `ORLOP_TIMES=1` measures and prints them, `ORLOP_BLESS_TIMES=1` writes them into `ebpf/README.md`; otherwise every
//! way is tried, and the README has to name them all. `cargo xtask bench packets` writes them.

mod world;

use orlop_datapath::Program;
use orlop_model::Ifindex;
use orlop_model::Protocol::Tcp;
use std::fmt::Write;
use std::path::Path as FilePath;
use world::World;
use world::frame::Frame;
use world::service::{Service, apply};

const NEXT: i32 = -1;
const REDIRECT: i32 = 7;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;
/// Runs of a path; fewer when nobody reads the times.
const RUNS: u32 = 20_000;
const RUNS_TRIED: u32 = 10;
/// Bytes of TCP in a packet of data.
const DATA_BYTES: usize = 64;

/// One way through a program.
struct Path {
    program: Program,
    /// What the packet is; unique with the program.
    what: &'static str,
    device: Ifindex,
    verdict: i32,
    /// The packet of run `n`.
    frame: Box<dyn Fn(u32) -> Frame>,
    /// Run once before.
    first: Option<(Program, Ifindex, Frame)>,
    /// Runs may share one packet: the program leaves it as it was, and is in the same state after it.
    repeats: bool,
}

/// What there is on the node.
struct Devices {
    pod: Ifindex,
    uplink: Ifindex,
    /// Of the uplink: packets for the node carry it.
    mac: [u8; 6],
}

impl Devices {
    fn new(pod: Ifindex) -> Self {
        let output = std::process::Command::new("ip").args(["-br", "link", "show", "uplink0"]).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let mac = line.split_whitespace().nth(2).expect("the uplink's hardware address");
        let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        Self { pod, uplink: world::ifindex("uplink0"), mac: bytes.try_into().unwrap() }
    }
}

/// From address and port to address and port.
fn data(src: &str, dst: &str) -> Frame {
    Frame { tcp_flags: ACK, payload: vec![7; DATA_BYTES], ..Frame::syn(src, dst, 2) }
}

/// A client's `n`th port.
fn from_port(frame: Frame, n: u32) -> Frame {
    let port = 20_000 + (n % 40_000) as u16;
    let src = format!("{}:{port}", frame.src.ip());
    frame.src(&src)
}

/// In the order of the README's table. The pods are 10.1.0.2 and 10.1.0.3; outside is 192.0.2.1.
fn paths(devices: &Devices) -> Vec<Path> {
    let Devices { pod, uplink, mac } = *devices;
    // From the pod to the host's side of its veth, or from outside to the uplink.
    let on = move |device: Ifindex, frame: Frame| {
        if device == pod {
            frame.macs([2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 2, 2])
        } else {
            frame.macs(mac, [2, 0, 0, 0, 7, 7])
        }
    };
    let path = |program, what, device, verdict, frame: Frame| Path {
        program,
        what,
        device,
        verdict,
        frame: Box::new(move |_| on(device, frame.clone())),
        first: None,
        repeats: true,
    };
    let pod_from = |what, verdict, frame| path(Program::PodFrom, what, pod, verdict, frame);
    let uplink_in = |what, verdict, frame| path(Program::UplinkIn, what, uplink, verdict, frame);
    let uplink_out = |what, frame| path(Program::UplinkOut, what, uplink, NEXT, frame);
    let new = |path: Path| {
        let frame = path.frame;
        Path { frame: Box::new(move |n| from_port(frame(n), n)), repeats: false, ..path }
    };
    let outside = ("10.1.0.2:41000", "192.0.2.1:9000");
    let node_port = ("192.0.2.1:42000", "192.0.2.2:30080");
    let opened =
        |program, device, (src, dst): (&str, &str)| Some((program, device, on(device, Frame::syn(src, dst, 1))));
    let reply = Frame { tcp_flags: SYN_ACK, ..data("10.1.0.2:8080", node_port.0) };
    vec![
        pod_from("to outside, flow not known", NEXT, data("10.1.0.2:40999", outside.1)),
        Path {
            first: opened(Program::PodFrom, pod, outside),
            ..pod_from("to outside, known flow", NEXT, data(outside.0, outside.1))
        },
        new(pod_from("to outside, new connection", NEXT, Frame::syn(outside.0, outside.1, 1))),
        Path {
            first: opened(Program::PodFrom, pod, ("10.1.0.2:41001", "10.1.0.3:8080")),
            ..pod_from("to a pod of the node, known flow", REDIRECT, data("10.1.0.2:41001", "10.1.0.3:8080"))
        },
        new(pod_from("to a pod of the node, new connection", REDIRECT, Frame::syn(outside.0, "10.1.0.3:8080", 1))),
        path(Program::PodTo, "from outside", pod, NEXT, data("192.0.2.1:43000", "10.1.0.2:8080")),
        uplink_in("not for a service", NEXT, data("192.0.2.1:43000", "192.0.2.2:22")),
        uplink_in("to a pod", NEXT, data("192.0.2.1:43000", "10.1.0.2:8080")),
        Path {
            first: opened(Program::UplinkIn, uplink, node_port),
            repeats: false,
            ..uplink_in("to a NodePort, known flow", REDIRECT, data(node_port.0, node_port.1))
        },
        new(uplink_in("to a NodePort, new connection", REDIRECT, Frame::syn(node_port.0, node_port.1, 1))),
        uplink_out("from the node", data("192.0.2.2:22", "192.0.2.1:43000")),
        uplink_out("from a pod, no service", data("10.1.0.2:8080", "192.0.2.1:43000")),
        Path {
            first: opened(Program::UplinkIn, uplink, node_port),
            repeats: false,
            ..uplink_out("reply of a NodePort's backend", reply)
        },
    ]
}

/// Nanoseconds of a run: the mean of repeated ones, where the packet allows it, and the median of single ones.
fn time(world: &World, path: &Path, runs: u32) -> (Option<u32>, u32) {
    let datapath = world.datapath();
    if let Some((program, device, frame)) = &path.first {
        datapath.dry_run(*program, *device, &frame.bytes()).unwrap();
    }
    let frame = (path.frame)(0).bytes();
    let verdict = datapath.dry_run(path.program, path.device, &frame).unwrap().0;
    assert_eq!(verdict, path.verdict, "{}, {}", path.program, path.what);
    let one = |frame: &[u8], repeat| datapath.time_run(path.program, path.device, frame, repeat).unwrap();
    let middle = |mut times: Vec<u32>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let repeated = path.repeats.then(|| middle((0..9).map(|_| one(&frame, runs)).collect()));
    (repeated, middle((1..=runs).map(|n| one(&(path.frame)(n).bytes(), 1)).collect()))
}

/// The README's rows: program, path, nanoseconds repeated and alone.
fn times(world: &World, runs: u32) -> Vec<[String; 4]> {
    let (pod, _other) = (world.pod_v4(2), world.pod_v4(3));
    let _outside = world.outside();
    let service = Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080);
    apply(world.datapath(), &[service]);
    let row = |path: &Path| {
        let (program, what) = (path.program.to_string(), path.what.to_owned());
        let (repeated, alone) = time(world, path, runs);
        [format!("`{program}`"), what, repeated.map_or(String::new(), |ns| ns.to_string()), alone.to_string()]
    };
    paths(&Devices::new(pod.host)).iter().map(row).collect()
}

/// The README's rows: program, instructions, those that the verifier walked over, bytes of machine code.
fn sizes(world: &World) -> Vec<[String; 4]> {
    let row = |program: &Program| {
        let size = world.datapath().program_size(*program).unwrap();
        let numbers = [size.instructions, size.verified, size.machine_bytes];
        assert!(numbers.iter().all(|number| *number > 0), "{program}: {size:?}");
        let [instructions, verified, machine] = numbers.map(|number| number.to_string());
        [format!("`{program}`"), instructions, verified, machine]
    };
    Program::ALL.iter().map(row).collect()
}

fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

/// What stands between the markers of `name`, and the text before and after.
fn between<'a>(text: &'a str, name: &str) -> [&'a str; 3] {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("the README lacks {begin}")) + begin.len();
    let to = from + text[from..].find(&end).unwrap_or_else(|| panic!("the README lacks {end}"));
    [&text[from..to], &text[..from], &text[to..]]
}

/// The first cells of a table's rows, as many as tell the rows apart.
fn keys(table: &str, cells: usize) -> Vec<String> {
    let key = |line: &str| line.split('|').skip(1).take(cells).map(str::trim).collect::<Vec<_>>().join(", ");
    table.lines().skip(2).map(key).collect()
}

#[test]
fn every_way_of_a_packet_has_its_time_in_the_readme() {
    World::run("timing", |world| {
        let bless = std::env::var_os("ORLOP_BLESS_TIMES").is_some();
        let measure = bless || std::env::var_os("ORLOP_TIMES").is_some();
        let times = times(world, if measure { RUNS } else { RUNS_TRIED });
        let times = table(["Program", "Packet", "ns, repeated", "ns, alone"], &times);
        let sizes = table(["Program", "Instructions", "Verifier's steps", "Machine code, bytes"], &sizes(world));
        println!("{times}\n{sizes}");
        let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../../ebpf/README.md");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (name, table, cells) in [("times", &times, 2), ("sizes", &sizes, 1)] {
            let [old, before, after] = between(&text, name);
            if bless {
                text = format!("{before}{table}{after}");
            } else {
                assert_eq!(
                    keys(old, cells),
                    keys(table, cells),
                    "ebpf/README.md is stale: run `cargo xtask bench packets`"
                );
            }
        }
        if bless {
            std::fs::write(&path, text).unwrap();
        }
    });
}
