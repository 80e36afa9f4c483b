//! The policer: its arithmetic on single packets, and what TCP makes of it.

use crate::bench::{Arguments, NEXT, Piece, SHOT};
use crate::world::{Netns, World, ip};
use aya::maps::{HashMap, Map, MapData};
use nix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

const POD: u32 = 7;
const FROM: u32 = 0;
const TO: u32 = 1;
const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const FRACTION_BITS: u32 = 20;

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * SECOND + now.tv_nsec() as u64
}

fn piece(direction: u32, value: [u64; 3]) -> Piece {
    let mut piece = Piece::load("bandwidth");
    piece.arguments(Arguments { number: POD, side: direction, ..Arguments::default() });
    piece.bandwidth().insert([POD, direction], value, 0).unwrap();
    piece
}

fn arrival(piece: &mut Piece, direction: u32) -> u64 {
    piece.bandwidth().get(&[POD, direction], 0).unwrap()[0]
}

#[test]
fn packets_pass_until_the_burst_is_used_up() {
    // 1,000 bytes take an hour.
    let per_byte = (HOUR / 1_000) << FRACTION_BITS;
    let mut piece = piece(FROM, [0, 2 * HOUR + HOUR / 2, per_byte]);
    let before = now();
    for wanted in [NEXT, NEXT, NEXT, SHOT, SHOT] {
        assert_eq!(piece.run(&[1; 1_000]).0, wanted);
    }
    // Three hours from the first packet, which found the clock ahead.
    let used = arrival(&mut piece, FROM);
    assert!((before + 3 * HOUR..=now() + 3 * HOUR).contains(&used), "{before} {used}");
}

#[test]
fn a_packet_larger_than_the_burst_passes_an_idle_pod() {
    let mut piece = piece(TO, [0, 0, (HOUR / 1_000) << FRACTION_BITS]);
    assert_eq!([piece.run(&[1; 1_400]).0, piece.run(&[1; 64]).0], [NEXT, SHOT]);
}

#[test]
fn pods_and_directions_without_a_limit_are_free() {
    let mut piece = piece(FROM, [now() + HOUR, 0, 1 << FRACTION_BITS]);
    assert_eq!(piece.run(&[1; 100]).0, SHOT);
    for (number, side) in [(POD, TO), (POD + 1, FROM)] {
        piece.arguments(Arguments { number, side, ..Arguments::default() });
        assert_eq!(piece.run(&[1; 100]).0, NEXT);
    }
}

#[test]
fn two_cpus_count_every_packet() {
    const TIMES: u32 = 200_000;
    let start = now() + HOUR;
    let mut piece = piece(FROM, [start, 100 * HOUR, 3 << FRACTION_BITS]);
    piece.run_twice_at_once(&[1; 100], TIMES);
    assert_eq!(arrival(&mut piece, FROM), start + 2 * u64::from(TIMES) * 300);
}

#[test]
fn limits_are_set_kept_and_taken_back() {
    World::run("bandwidth", |world| {
        let device = world.pod_v4(1).host;
        let pin = MapData::from_pin(world.config.bpf_dir.join("maps/BANDWIDTH")).unwrap();
        let mut limits = HashMap::<_, [u32; 2], [u64; 3]>::try_from(Map::HashMap(pin)).unwrap();
        let (from, to) = ([device.get(), FROM], [device.get(), TO]);
        let set = |egress, ingress| world.datapath().set_bandwidth(device, egress, ingress).unwrap();
        set(Some(10_000_000), Some(1_000_000_000));
        assert_eq!(limits.get(&from, 0).unwrap(), [0, SECOND / 4, 800 << FRACTION_BITS]);
        assert_eq!(limits.get(&to, 0).unwrap(), [0, SECOND / 4, 8 << FRACTION_BITS]);
        // What was used stays used, as when an agent starts again; another rate starts anew.
        for (key, used) in [(from, 77), (to, 88)] {
            let [_, burst, per_byte] = limits.get(&key, 0).unwrap();
            limits.insert(key, [used, burst, per_byte], 0).unwrap();
        }
        set(Some(10_000_000), Some(100_000_000));
        assert_eq!([limits.get(&from, 0).unwrap()[0], limits.get(&to, 0).unwrap()[0]], [77, 0]);
        set(None, Some(100_000_000));
        assert_eq!(limits.keys().map(Result::unwrap).collect::<Vec<_>>(), [to]);
        world.datapath().detach_pod(device).unwrap();
        assert_eq!(limits.keys().count(), 0);
    });
}

#[test]
fn tcp_is_held_to_the_rate() {
    const BITS_PER_S: u64 = 10_000_000;
    const BYTES: u64 = 2_500_000;
    const PACKET_MAX: u64 = 65_536 + 128;
    let burst = SECOND / 4;
    let mut piece = piece(FROM, [0, burst, ((8 * SECOND) << FRACTION_BITS) / BITS_PER_S]);
    let (host, pod) = (Netns::new(), Netns::new());
    let listener = pod.run(|| {
        // This thread's namespace, as long as the thread lives.
        let peer = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
        let listener = host.run(|| {
            ip(&format!("link add pod0 type veth peer name eth0 netns {peer}"));
            ip("addr add 10.1.0.1/24 dev pod0");
            ip("link set pod0 up");
            piece.attach("pod0");
            TcpListener::bind("10.1.0.1:0").unwrap()
        });
        ip("addr add 10.1.0.2/24 dev eth0");
        ip("link set eth0 up");
        listener
    });
    let address = listener.local_addr().unwrap();
    let receiver = std::thread::spawn(move || {
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        received.len() as u64
    });
    let start = Instant::now();
    pod.run(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[1; BYTES as usize]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The receiver closes once it has all.
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    });
    let elapsed = start.elapsed().as_nanos() as u64;
    assert_eq!(receiver.join().unwrap(), BYTES);
    // However slow this machine is: never more than the rate and the burst.
    let allowed = (elapsed + burst) / (8 * SECOND / BITS_PER_S) + PACKET_MAX;
    assert!(BYTES <= allowed, "{BYTES} bytes in {elapsed} ns, {allowed} allowed");
    println!("TCP at {BITS_PER_S} bit/s: {} % of it over {elapsed} ns", BYTES * 800 * SECOND / elapsed / BITS_PER_S);
}
