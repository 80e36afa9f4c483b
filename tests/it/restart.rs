//! What survives the death of the agent and of monitors.

use orlop_tests::{Pod, World, object, pod};
use std::fs;
use std::path::Path;

/// Waits until a process is gone.
fn wait_dead(world: &World, pid: u32) {
    world.wait_until("the process is gone", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

/// The monitor of a pod.
fn monitor_pid(world: &World, pod: &Pod) -> i32 {
    let run = world.folder("run").display().to_string();
    let found = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let words = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let own = words.contains("orlop-monitor") && words.contains(&run) && words.contains(&pod.uid);
        own.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    });
    let all: Vec<i32> = found.collect();
    assert_eq!(all.len(), 1, "monitors of {}: {all:?}", pod.name);
    all[0]
}

const SERVER: &str = "containers: [{name: c, image: IMAGE, command: [nc, -ll, -p, '7000', -e, cat]}]";
/// Keeps one connection through the Service; what is written to /in comes back in /out.
const CLIENT: &str = r#"
    containers:
    - name: c
      image: IMAGE
      command: [sh, -c, "mkfifo /in; sleep inf > /in & nc 10.96.0.50 7000 < /in > /out; echo closed >> /out; sleep inf"]"#;
const TICKER: &str = r#"
    containers:
    - name: c
      image: IMAGE
      command: [sh, -c, "i=0; while true; do echo $i; i=$((i+1)); usleep 5000; done"]"#;

#[test]
fn nothing_happens_to_pods_when_the_agent_dies() {
    let mut world = World::new();
    let service = object(
        "Service",
        "{name: echo}",
        "spec: {clusterIP: 10.96.0.50, selector: {app: echo}, ports: [{port: 7000}]}",
    );
    let server = orlop_tests::labelled_pod("server", "app: echo", SERVER);
    world.apply("server", &(server + &service));
    world.apply("ticker", &pod("ticker", TICKER));
    let go = world.folder("go");
    fs::create_dir(&go).unwrap();
    let quitter = format!(
        "restartPolicy: Never
         volumes: [{{name: go, hostPath: {{path: {}}}}}]
         containers: [{{name: c, image: IMAGE, volumeMounts: [{{name: go, mountPath: /go}}],
           command: [sh, -c, 'until [ -e /go/now ]; do usleep 5000; done; echo last words; exit 42']}}]",
        go.display()
    );
    world.apply("quitter", &pod("quitter", &quitter));
    world.wait_ready("server");
    world.apply("client", &pod("client", CLIENT));
    let echoed = |world: &World, all: &str| {
        world.wait_until("the words come back", || (world.sh("client", "cat /out").stdout == all).then_some(()));
    };
    for name in ["ticker", "quitter", "client"] {
        world.wait_ready(name);
    }
    world.sh("client", "echo one > /in").ok();
    echoed(&world, "one\n");

    let before = world.pods();
    let log = world.agent_log();
    world.kill();
    let ticks = |world: &World| fs::metadata(ticker_log(world)).unwrap().len();
    let written = ticks(&world);
    fs::write(go.join("now"), "").unwrap();
    let quitter_pid = before.iter().find(|pod| pod.name == "quitter").and_then(|pod| pod.container("c").pid).unwrap();
    wait_dead(&world, quitter_pid);
    world.wait_until("the ticker has written without an agent", || (ticks(&world) > written + 1000).then_some(()));
    world.start();

    let quitter = world.wait_pod("quitter", "Failed", |pod| pod.phase == "Failed");
    assert_eq!((quitter.container("c").exit_code, quitter.container("c").restarts), (Some(42), 0));
    assert_eq!(world.orlop(&["logs", "quitter"]).ok(), "last words");
    for old in before.iter().filter(|pod| pod.name != "quitter") {
        let (new, name) = (world.pod(&old.name), &old.name);
        assert_eq!(&new, old, "{name} was touched");
    }
    world.sh("client", "echo two > /in").ok();
    echoed(&world, "one\ntwo\n");
    let numbers = world.orlop(&["logs", "ticker"]).ok();
    for (expected, line) in numbers.lines().enumerate() {
        assert_eq!(line, expected.to_string(), "a line of the log was lost");
    }
    let news = world.log_since(&log);
    assert!(news.contains("map_operations=0"), "the plan of the Services is not empty:\n{news}");
    for action in ["CreateSandbox", "StartContainer", "SetUpVolumes", "StopContainer", "EnsureImage"] {
        assert!(!news.contains(&format!("action={action}")), "the plan after a restart is not empty:\n{news}");
    }
}

fn ticker_log(world: &World) -> std::path::PathBuf {
    let folders = fs::read_dir(world.folder("log")).unwrap().flatten();
    let own = folders.map(|entry| entry.path()).find(|path| path.display().to_string().contains("default_ticker_"));
    own.unwrap().join("c/0.log")
}

#[test]
fn a_pod_whose_monitor_dies_is_built_anew() {
    let world = World::new();
    world.apply("again", &pod("again", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    world.apply("never", &pod("never", "restartPolicy: Never\ncontainers: [{name: c, image: IMAGE, command: IDLE}]"));
    let (again, never) = (world.wait_ready("again"), world.wait_ready("never"));
    for pod in [&again, &never] {
        let pid = nix::unistd::Pid::from_raw(monitor_pid(&world, pod));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    let id = again.container("c").id.clone();
    let anew = world.wait_pod("again", "runs anew", |pod| pod.ready && pod.container("c").id != id);
    assert_eq!(anew.uid, again.uid);
    assert_eq!(anew.container("c").restarts, 1);
    world.wait_event("again", "SandboxChanged", "");
    wait_dead(&world, again.container("c").pid.unwrap());
    let failed = world.wait_pod("never", "Failed", |pod| pod.phase == "Failed");
    assert_eq!(failed.container("c").exit_code, Some(137));
}

#[test]
fn an_agent_killed_while_pods_start_brings_them_up_after() {
    let mut world = World::new();
    for round in 0..3 {
        let all: String = (0..10)
            .map(|n| pod(&format!("r{round}-{n}"), "containers: [{name: c, image: IMAGE, command: IDLE}]"))
            .collect();
        world.apply("many", &all);
        // Each round is interrupted somewhere else.
        world.wait_until("some pods have begun", || {
            (world.pods().iter().filter(|pod| begun(pod, round)).count() > 3 * round).then_some(())
        });
        world.restart();
        world.wait_until("all pods are Ready", || {
            let pods = world.pods();
            let mine = pods.iter().filter(|pod| pod.name.starts_with(&format!("r{round}-")));
            (pods.len() == 10 && mine.filter(|pod| pod.ready).count() == 10).then_some(())
        });
    }
}

/// In the first round it is enough that a pod is there.
fn begun(pod: &Pod, round: usize) -> bool {
    round == 0 || pod.containers.iter().any(|container| container.state == "running")
}
