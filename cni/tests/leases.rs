//! Address leases: a table of steps against one file, and the file itself.

use jiff::{SignedDuration, Timestamp};
use orlop_cni::{AddressPool, CniError, Ipam, REUSE_AFTER_SECS};
use orlop_model::PodUid;
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(secs)
}

fn open(file: &Path, cidrs: &str) -> Ipam {
    let cidrs: Vec<ipnet::IpNet> = cidrs.split(' ').map(|cidr| cidr.parse().unwrap()).collect();
    Ipam::open(file, &cidrs).unwrap()
}

fn text(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Runs `SECOND allocate|release|restart POD -> ADDRESSES|exhausted` line by line.
fn check(cidrs: &str, script: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ipam.json");
    let mut ipam = open(&file, cidrs);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (step, expected) = line.split_once("->").unwrap();
        let words: Vec<&str> = step.split_whitespace().collect();
        let now = at(words[0].parse().unwrap());
        let got = match words[1] {
            "allocate" => match ipam.allocate(&uid(words[2]), now) {
                Ok(ips) => text(&ips),
                Err(CniError::Exhausted { .. }) => "exhausted".to_owned(),
                Err(error) => panic!("{line}: {error}"),
            },
            "release" => text(&ipam.release(&uid(words[2]), now).unwrap()),
            "restart" => {
                let before = ipam.leases();
                ipam = open(&file, cidrs);
                assert_eq!(ipam.leases(), before, "{line}");
                String::new()
            }
            other => panic!("{other}"),
        };
        assert_eq!(got, expected.trim(), "{line}");
    }
}

#[test]
fn one_address_a_family_in_the_order_of_the_ranges() {
    check(
        "10.1.0.0/24 fd00:1::/64",
        "0 allocate a -> 10.1.0.2 fd00:1::2
         0 allocate b -> 10.1.0.3 fd00:1::3
         1 allocate a -> 10.1.0.2 fd00:1::2
         2 release a -> 10.1.0.2 fd00:1::2
         2 release a ->
         3 allocate c -> 10.1.0.4 fd00:1::4",
    );
    check("fd00:1::/64 10.1.0.0/24", "0 allocate a -> fd00:1::2 10.1.0.2");
}

#[test]
fn network_gateway_and_broadcast_are_left_out() {
    check(
        "10.1.0.0/29",
        "0 allocate a -> 10.1.0.2
         0 allocate b -> 10.1.0.3
         0 allocate c -> 10.1.0.4
         0 allocate d -> 10.1.0.5
         0 allocate e -> 10.1.0.6
         0 allocate f -> exhausted",
    );
    for tiny in ["10.1.0.0/31", "10.1.0.7/32", "10.1.0.0/30"] {
        let pool = <AddressPool>::new(tiny.parse().unwrap());
        assert_eq!(pool.capacity(), u128::from(tiny.ends_with("30")), "{tiny}");
    }
    check("10.1.0.0/31", "0 allocate a -> exhausted");
}

#[test]
fn no_address_comes_back_within_a_minute_not_even_across_a_restart() {
    check(
        "10.1.0.0/30",
        "0 allocate a -> 10.1.0.2
         10 release a -> 10.1.0.2
         11 allocate b -> exhausted
         12 restart ->
         69 allocate b -> exhausted
         70 allocate b -> 10.1.0.2
         70 restart ->
         71 allocate b -> 10.1.0.2",
    );
    assert_eq!(REUSE_AFTER_SECS, 60);
}

#[test]
fn round_robin_also_after_a_restart() {
    check(
        "10.1.0.0/29",
        "0 allocate a -> 10.1.0.2
         0 release a -> 10.1.0.2
         100 restart ->
         100 allocate b -> 10.1.0.3
         100 allocate c -> 10.1.0.4
         100 allocate d -> 10.1.0.5
         100 allocate e -> 10.1.0.6
         100 allocate f -> 10.1.0.2",
    );
}

#[test]
fn a_second_range_of_a_family_takes_over_when_the_first_is_full() {
    check(
        "10.1.0.0/30 10.2.0.0/30",
        "0 allocate a -> 10.1.0.2
         0 allocate b -> 10.2.0.2
         0 allocate c -> exhausted",
    );
}

#[test]
fn a_family_that_is_exhausted_takes_nothing_of_the_other() {
    check(
        "10.1.0.0/29 fd00::/126",
        "0 allocate a -> 10.1.0.2 fd00::2
         0 allocate b -> exhausted
         0 release a -> 10.1.0.2 fd00::2
         100 allocate c -> 10.1.0.3 fd00::2",
    );
}

#[test]
fn a_large_range_never_runs_long() {
    let dir = tempfile::tempdir().unwrap();
    let mut ipam = open(&dir.path().join("ipam.json"), "::/0");
    for number in 0..300 {
        ipam.allocate(&uid(&format!("p{number}")), at(0)).unwrap();
    }
    assert_eq!(ipam.leases().len(), 300);
}

#[test]
fn leases_of_pods_that_are_gone_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let mut ipam = open(&dir.path().join("ipam.json"), "10.1.0.0/24");
    for pod in ["a", "b", "c"] {
        ipam.allocate(&uid(pod), at(0)).unwrap();
    }
    let live = BTreeSet::from([uid("b")]);
    assert_eq!(ipam.retain(&live, at(1)).unwrap(), [uid("a"), uid("c")]);
    assert_eq!(ipam.leases().len(), 1);
}

#[test]
fn a_lease_outside_the_new_range_stays_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ipam.json");
    open(&file, "10.1.0.0/24").allocate(&uid("old"), at(0)).unwrap();
    let mut ipam = open(&file, "10.9.0.0/24");
    assert_eq!(text(&ipam.allocate(&uid("old"), at(1)).unwrap()), "10.1.0.2");
    assert_eq!(text(&ipam.allocate(&uid("new"), at(1)).unwrap()), "10.9.0.2");
    assert_eq!(text(&ipam.release(&uid("old"), at(2)).unwrap()), "10.1.0.2");
}

#[test]
fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ipam.json");
    let mut ipam = open(&file, "10.1.0.0/30");
    ipam.allocate(&uid("a"), at(0)).unwrap();
    let full = ipam.allocate(&uid("b"), at(0)).unwrap_err().to_string();
    assert!(full.contains("10.1.0.0/30 is exhausted: 1 of 1") && full.contains("--pod-cidr"), "{full}");

    fs::write(&file, "{\"leases\": [").unwrap();
    let damaged = <Ipam>::open(&file, &["10.1.0.0/30".parse().unwrap()]).unwrap_err().to_string();
    assert!(damaged.contains("ipam.json are damaged"), "{damaged}");

    fs::remove_file(&file).unwrap();
    let mut none = <Ipam>::open(&file, &[]).unwrap();
    assert!(matches!(none.allocate(&uid("a"), at(0)), Err(CniError::NoCidr)));
}

#[test]
fn what_cannot_be_written_is_not_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no-such-folder/ipam.json");
    let mut ipam = open(&missing, "10.1.0.0/24");
    assert!(matches!(ipam.allocate(&uid("a"), at(0)), Err(CniError::WriteLeases { .. })));
    assert!(ipam.leases().is_empty());
}

#[test]
fn addresses_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut ipam = open(&dir.path().join("ipam.json"), "10.1.0.0/29 fd00::/64");
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let ask = |ipam: &mut Ipam, pod: &str, ips: &[&str]| {
        let ips: Vec<IpAddr> = ips.iter().map(|text| ip(text)).collect();
        ipam.allocate_asked(&uid(pod), &ips, at(0)).map(|given| text(&given))
    };
    assert_eq!(ask(&mut ipam, "a", &["fd00::77"]).unwrap(), "10.1.0.2 fd00::77");
    assert_eq!(ask(&mut ipam, "a", &["fd00::77"]).unwrap(), "10.1.0.2 fd00::77");
    assert!(matches!(ask(&mut ipam, "a", &["fd00::78"]), Err(CniError::HasOthers { .. })));
    assert!(matches!(ask(&mut ipam, "b", &["10.1.0.3", "fd00::77"]), Err(CniError::Taken { .. })));
    for outside in ["10.1.0.0", "10.1.0.1", "10.1.0.7", "10.2.0.2"] {
        assert!(matches!(ask(&mut ipam, "b", &[outside]), Err(CniError::NotInRange { .. })), "{outside}");
    }
    assert_eq!(ipam.leases().len(), 2, "a refusal takes nothing");
    // One that rests is given when it is asked for, and is skipped when it is the next in turn.
    ipam.release(&uid("a"), at(0)).unwrap();
    assert_eq!(ask(&mut ipam, "b", &["10.1.0.2"]).unwrap(), "10.1.0.2 fd00::2");
    assert_eq!(ask(&mut ipam, "c", &["10.1.0.3"]).unwrap(), "10.1.0.3 fd00::3");
    assert_eq!(ask(&mut ipam, "d", &[]).unwrap(), "10.1.0.4 fd00::4");
    assert_eq!((ipam.pools()[0].available(at(0)), ipam.pools()[0].capacity()), (2, 5));
}

#[test]
fn leases_that_were_written_as_pods_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ipam.json");
    fs::write(&file, r#"{"leases":[{"ip":"10.1.0.9","pod":"a"}],"resting":{},"last":[]}"#).unwrap();
    assert_eq!(text(&open(&file, "10.1.0.0/24").addresses(&uid("a"))), "10.1.0.9");
}
