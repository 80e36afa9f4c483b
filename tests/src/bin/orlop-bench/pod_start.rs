//! One pod at a time, its image present: from the manifest's appearance to its
//! container's process running, in turns with `crun run` of the same bundle.

use crate::clock::{Marks, load, ms};
use crate::crun::{self, Bundle};
use crate::figure::{Figure, Report, median, percentile};
use crate::{Effort, node};
use orlop_tests::{World, wait_for};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// At most so many times `crun run`, although crun makes no network.
const RATIO_MOST: f64 = 1.5;

/// Moving a process into a cgroup makes the kernel wait for all CPUs (10 to 15 ms),
/// and only the first time: for a moment after it moves are quick, whoever made the
/// first. Each side starts from rest, as on a node where nothing else has just started.
const REST: Duration = Duration::from_millis(200);

/// Times of all turns, in milliseconds.
#[derive(Default)]
struct Turns {
    pod: Vec<f64>,
    crun_run: Vec<f64>,
    crun_process: Vec<f64>,
    phases: BTreeMap<String, Vec<f64>>,
    order: Vec<String>,
}

pub fn run(effort: &Effort, report: &mut Report) {
    let have_crun = crun::have_crun();
    let world = node::quiet();
    let mut marks = Marks::new(world.folder("marks"));
    let cgroup_root = format!("{}/crun", world.cgroup_root());
    let mut turns = Turns::default();
    // The first pod is not counted: it fills caches that later ones find.
    for turn in 0..=(if effort.quick { 10 } else { 30 }) {
        let name = format!("start-{turn}");
        let took = start(&world, &mut marks, &name);
        let pod =
            world.wait_pod(&name, "its container runs", |pod| pod.containers.iter().all(|c| c.state == "running"));
        let phases = world.detail(&name).expect("the pod").start_phases;
        let crun = have_crun.then(|| {
            let bundle =
                Bundle::of_pod(&world, &pod.uid, &format!("crun-{turn}"), &format!("crun-{turn}"), &cgroup_root);
            start_crun(&world, &mut marks, &bundle, &format!("crun-{turn}"))
        });
        world.delete(&name);
        wait_gone(&world, &name);
        if turn > 0 {
            turns.take(took, crun, phases);
        }
    }
    crun::clean(&world, &cgroup_root);
    turns.report(have_crun, report);
}

/// From the rename into the manifests folder to the file that the container makes.
fn start(world: &World, marks: &mut Marks, name: &str) -> f64 {
    std::thread::sleep(REST);
    let manifest = node::marking_pod(name, name, marks.folder());
    let appeared = node::appear(world, &[(name.to_owned(), manifest)]);
    ms(marks.wait(name).duration_since(appeared))
}

/// The time of the whole of `crun run`, and until its process ran.
fn start_crun(world: &World, marks: &mut Marks, bundle: &Bundle, mark: &str) -> (f64, f64) {
    let mut command = bundle.run(world);
    std::thread::sleep(REST);
    let began = Instant::now();
    let child = command.spawn().expect("start crun");
    let waiting = std::thread::spawn(move || (child.wait_with_output(), Instant::now()));
    let runs = marks.wait_while(mark, || !waiting.is_finished());
    let (output, ended) = waiting.join().expect("the thread that waits for crun");
    let output = output.expect("wait for crun");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "crun run of the pod's bundle: {}: {}", output.status, said.trim());
    let runs = runs.expect("crun ran the command, which makes a file");
    (ms(ended.duration_since(began)), ms(runs.duration_since(began)))
}

fn wait_gone(world: &World, name: &str) {
    let gone = wait_for(|| world.find(name).is_none().then_some(()));
    assert!(gone.is_some(), "pod {name} does not end");
}

impl Turns {
    fn take(&mut self, pod: f64, crun: Option<(f64, f64)>, phases: Vec<(String, u64)>) {
        self.pod.push(pod);
        if let Some((run, process)) = crun {
            self.crun_run.push(run);
            self.crun_process.push(process);
        }
        for (name, micros) in phases {
            if !self.order.contains(&name) {
                self.order.push(name.clone());
            }
            self.phases.entry(name).or_default().push(micros as f64 / 1000.0);
        }
    }

    fn report(&self, have_crun: bool, report: &mut Report) {
        let p50 = Figure::new("pod-start/p50", median(&self.pod), "ms");
        if have_crun {
            report.add(p50.against("crun run", median(&self.crun_run)).ratio_at_most(RATIO_MOST));
            let to_process = Figure::new("pod-start/p50-to-process", median(&self.pod), "ms");
            report.add(to_process.against("crun run, until its process runs", median(&self.crun_process)));
        } else {
            report.add(p50);
            report.missing("pod-start/ratio", crun::NO_CRUN);
        }
        report.add(Figure::new("pod-start/p95", percentile(&self.pod, 95), "ms"));
        for name in &self.order {
            report.add(Figure::new(format!("pod-start/phase/{name}"), median(&self.phases[name]), "ms"));
        }
        report.note(format!("pod-start: {} pods, {}", self.pod.len(), load()));
    }
}
