//! Memory of the pods' monitors and of the agent.

use crate::clock::Marks;
use crate::figure::{Figure, Report, median};
use crate::{Effort, node};
use orlop_tests::{World, wait_for};
use std::fs;
use std::time::Duration;

/// Pods with one running container each.
const PODS: usize = 10;
/// Private memory of a monitor, in KiB.
const MONITOR_KIB_MOST: f64 = 1024.0;
/// Resident memory of the agent, in MiB.
const AGENT_MIB_MOST: f64 = 30.0;
/// After so long without work the agent counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(3);

pub fn run(_: &Effort, report: &mut Report) {
    let world = node::quiet();
    let mut marks = Marks::new(world.folder("marks"));
    for n in 0..PODS {
        let name = format!("memory-{n}");
        node::appear(&world, &[(name.clone(), node::marking_pod(&name, &name, marks.folder()))]);
        marks.wait(&name);
    }
    std::thread::sleep(IDLE_AFTER);
    let private: Vec<f64> = world.monitor_pids().iter().map(|pid| private_kib(*pid)).collect();
    assert_eq!(private.len(), PODS, "as many monitors as pods");
    report.add(Figure::new("memory/monitor-private", median(&private), "KiB").at_most(MONITOR_KIB_MOST));
    let most = private.iter().copied().fold(0.0, f64::max);
    report.add(Figure::new("memory/monitor-private-max", most, "KiB").at_most(MONITOR_KIB_MOST));
    report.add(agent(&world, "memory/agent-rss-with-10-pods"));
    for n in 0..PODS {
        world.delete(&format!("memory-{n}"));
    }
    assert!(wait_for(|| world.pods().is_empty().then_some(())).is_some(), "the pods do not end");
    std::thread::sleep(IDLE_AFTER);
    report.add(agent(&world, "memory/agent-rss-idle"));
}

fn agent(world: &World, name: &str) -> Figure {
    Figure::new(name, rss_mib(world.agent_pid()), "MiB").at_most(AGENT_MIB_MOST)
}

/// Private_Clean and Private_Dirty of smaps_rollup.
pub fn private_kib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read smaps_rollup");
    ["Private_Clean:", "Private_Dirty:"].iter().map(|key| kib(&text, key)).sum()
}

/// Resident memory of a process, in MiB.
pub fn rss_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the process's status");
    kib(&text, "VmRSS:") / 1024.0
}

/// The most that a process ever had resident, in MiB.
pub fn peak_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the process's status");
    kib(&text, "VmHWM:") / 1024.0
}

fn kib(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}
