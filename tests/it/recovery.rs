//! What an agent makes of a node on which much has happened without it.

use orlop_tests::{Pod, World, pod};

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

fn many(prefix: &str, count: usize) -> String {
    (0..count).map(|n| pod(&format!("{prefix}{n}"), IDLER)).collect()
}

#[test]
fn manifests_that_change_meanwhile_are_followed() {
    let mut world = World::new();
    let once = "restartPolicy: Never\ncontainers: [{name: c, image: IMAGE, command: [echo, done]}]";
    for (name, spec) in
        [("kept", IDLER), ("changed", IDLER), ("dropped", IDLER), ("done", once), ("done-dropped", once)]
    {
        world.apply(name, &pod(name, spec));
    }
    let [kept, changed, dropped] = ["kept", "changed", "dropped"].map(|name| world.wait_ready(name));
    let done = ["done", "done-dropped"].map(|name| world.wait_pod(name, "Succeeded", |pod| pod.phase == "Succeeded"));
    world.kill();
    world.delete("dropped");
    world.delete("done-dropped");
    world.apply("changed", &pod("changed", &format!("hostname: other\n{IDLER}")));
    world.apply("new", &pod("new", IDLER));
    world.start();
    for name in ["dropped", "done-dropped"] {
        world.wait_gone(name);
    }
    world.wait_ready("new");
    let now = world.wait_pod("changed", "is another", |pod| pod.ready && pod.uid != changed.uid);
    assert_ne!(now.ips, dropped.ips);
    assert_eq!(world.pod("kept"), kept);
    let after = world.pod("done");
    assert_eq!(after.containers, done[0].containers, "what has ended for good does not run again");
    assert_eq!(after.phase, "Succeeded");
    assert_eq!(world.orlop(&["logs", "done"]).ok(), "done");
}

#[test]
fn an_agent_killed_while_pods_end_ends_them_after() {
    let mut world = World::new();
    for round in 0..3 {
        world.apply("many", &many("p", 8));
        world.wait_until("all are Ready", || (ready(&world.pods()) == 8).then_some(()));
        world.delete("many");
        // Each round is interrupted somewhere else.
        world.wait_until("some have begun to end", || (ready(&world.pods()) <= 8 - 3 * round).then_some(()));
        world.restart();
        world.wait_until("all are gone", || world.pods().is_empty().then_some(()));
    }
}

fn ready(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| pod.ready && pod.status == "Running").count()
}

#[test]
fn restarts_and_back_off_are_remembered() {
    let mut world = World::new();
    world.apply("crash", &pod("crash", "containers: [{name: c, image: IMAGE, command: [sh, -c, exit 9]}]"));
    let before = world.wait_pod("crash", "backs off", |pod| pod.status == "CrashLoopBackOff");
    world.restart();
    let after = world.wait_pod("crash", "backs off", |pod| pod.status == "CrashLoopBackOff");
    // Ten seconds of back-off may have gone by, but nothing started from the beginning.
    assert!(after.container("c").restarts >= before.container("c").restarts, "{after:?} after {before:?}");
    assert!(after.container("c").last.as_deref().unwrap().contains("exit code 9"), "{after:?}");
}

#[test]
fn after_a_boot_all_pods_are_built_anew() {
    let mut world = World::new();
    world.apply("many", &many("p", 4));
    world.wait_until("all are Ready", || (ready(&world.pods()) == 4).then_some(()));
    let before = world.pods();
    world.kill();
    world.power_off();
    world.start();
    world.wait_until("all are Ready", || (ready(&world.pods()) == 4).then_some(()));
    for old in &before {
        let new = world.pod(&old.name);
        assert_eq!((&new.uid, new.container("c").restarts), (&old.uid, 1), "{new:?}");
        assert_ne!(new.container("c").id, old.container("c").id);
        assert_eq!(world.sh(&old.name, "hostname").ok(), old.name);
    }
}
