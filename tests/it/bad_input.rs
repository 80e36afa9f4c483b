//! Bad input is named by file, object and field, and nothing else stops.

use orlop_tests::{IMAGE, Options, Pod, Role, World, object, pod, write_image};
use std::fs;
use std::io::Write;

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

/// A pod that has to go on whatever happens beside it.
fn healthy(world: &World) -> Pod {
    world.apply("healthy", &pod("healthy", IDLER));
    world.wait_ready("healthy")
}

fn untouched(world: &World, before: &Pod) {
    let now = world.pod("healthy");
    assert_eq!(
        (&now.container("c").id, now.container("c").pid),
        (&before.container("c").id, before.container("c").pid)
    );
    assert!(now.ready && now.container("c").restarts == 0, "{now:?}");
    assert_eq!(world.sh("healthy", "echo fine").ok(), "fine");
}

/// Waits until `orlop describe POD` has all of `parts`.
fn describe_has(world: &World, pod: &str, parts: &[&str]) {
    world.wait_until(&format!("describe {pod} has {parts:?}"), || {
        let text = world.orlop(&["describe", pod]).stdout;
        parts.iter().all(|part| text.contains(part)).then_some(())
    });
}

#[test]
fn manifests_at_fault_are_named() {
    let world = World::new();
    let before = healthy(&world);
    world.apply("not-yaml", "kind: [\n");
    world.wait_until("the node tells of it", || {
        let text = world.orlop(&["node"]).stdout;
        (text.contains("not-yaml.yaml") && text.contains("not valid YAML")).then_some(())
    });
    world.apply("unknown", &pod("unknown", "containers: [{name: c, imagee: IMAGE}]"));
    describe_has(
        &world,
        "unknown",
        &["unknown.yaml", "unknown field", "spec.containers[0].imagee", "FailedValidation"],
    );
    world.apply("invalid", &pod("invalid", "restartPolicy: Sometimes\ncontainers: [{name: c, image: IMAGE}]"));
    describe_has(&world, "invalid", &["invalid.yaml", "spec.restartPolicy", "Sometimes", "FailedValidation"]);
    world.apply("typed", &pod("typed", "containers: [{name: c, image: IMAGE, ports: [{containerPort: many}]}]"));
    describe_has(&world, "typed", &["typed.yaml", "spec.containers[0].ports[0].containerPort"]);
    let rows = world.orlop(&["ps"]).ok();
    assert_eq!(rows.lines().filter(|line| line.contains("Invalid")).count(), 3, "{rows}");
    // The second file to give an object is told, and the first one holds.
    world.apply("twice", &pod("healthy", "hostname: other\ncontainers: [{name: c, image: IMAGE, command: IDLE}]"));
    describe_has(&world, "healthy", &["twice.yaml", "healthy.yaml, which holds"]);
    // A typing error in its own file stops no pod.
    world.apply("healthy", "kind: [\n");
    world.wait_until("the node tells of it", || world.orlop(&["node"]).stdout.contains("/healthy.yaml").then_some(()));
    untouched(&world, &before);
    // What is put right runs.
    world.apply("unknown", &pod("unknown", IDLER));
    world.wait_ready("unknown");
    untouched(&world, &before);
}

#[test]
fn a_missing_image_is_waited_for() {
    let world = World::new();
    let before = healthy(&world);
    world.apply("waits", &pod("waits", "containers: [{name: c, image: 'example.test/late:1', command: IDLE}]"));
    world.wait_pod("waits", "says so", |pod| ["ErrImagePull", "ImagePullBackOff"].contains(&pod.status.as_str()));
    describe_has(&world, "waits", &["example.test/late:1", "registry example.test is unavailable"]);
    let archive = world.folder("late.tar");
    write_image(&archive, "example.test/late:1");
    world.orlop(&["load", archive.to_str().unwrap()]).ok();
    // At once, not after the back-off of 10 s and more; a test of time it is not.
    world.wait_ready("waits");
    untouched(&world, &before);
}

#[test]
fn a_port_of_the_node_has_one_owner() {
    let world = World::new();
    let before = healthy(&world);
    let spec = "containers: [{name: c, image: IMAGE, command: IDLE, ports: [{containerPort: 80, hostPort: 8080}]}]";
    world.apply("first", &pod("first", spec));
    world.wait_ready("first");
    world.apply("second", &pod("second", spec));
    describe_has(
        &world,
        "second",
        &["second.yaml", "spec.containers[0].ports[0].hostPort", "8080/TCP belongs to pod default/first"],
    );
    world.delete("first");
    world.wait_ready("second");
    untouched(&world, &before);
}

#[test]
fn an_exhausted_pod_cidr_recovers() {
    let mut world = World::with(Options { pod_cidr: "10.244.7.0/29".to_owned(), ..Options::default() });
    let before = healthy(&world);
    let fits = |name: &str| {
        world.apply(name, &pod(name, IDLER));
        world.wait_until("it runs or waits", || {
            let detail = world.detail(name)?;
            (detail.pod.ready || !detail.events("FailedCreatePodSandBox").is_empty()).then_some(detail.pod.ready)
        })
    };
    let mut fitting = vec![];
    let waiting = (0..8).map(|n| format!("p{n}")).find(|name| {
        let fit = fits(name);
        if fit {
            fitting.push(name.clone());
        }
        !fit
    });
    let waiting = waiting.expect("eight addresses are not enough for nine pods");
    describe_has(&world, &waiting, &["10.244.7.0/29 is exhausted", "--pod-cidr", "ContainerCreating"]);
    let leaver = fitting.pop().expect("a pod that fits");
    world.delete(&leaver);
    world.wait_gone(&leaver);
    // An address rests for a minute. Not to wait for it, the agent's memory is aged while it is down.
    world.kill();
    let leases = world.folder("state/leases.json");
    let mut memory: serde_json::Value = serde_json::from_slice(&fs::read(&leases).unwrap()).unwrap();
    age(&mut memory);
    fs::write(&leases, memory.to_string()).unwrap();
    world.start();
    world.wait_ready(&waiting);
    untouched(&world, &before);
}

/// Makes all releases two years old.
fn age(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) if text.starts_with("20") => *text = format!("2020{}", &text[4..]),
        serde_json::Value::Array(items) => items.iter_mut().for_each(age),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(age),
        _ => {}
    }
}

#[test]
fn a_full_disk_stops_nothing_that_runs() {
    let world = World::with(Options { state_bytes: Some(16 << 20), ..Options::default() });
    let before = healthy(&world);
    let ballast = world.folder("state/ballast");
    world.run(Role::Node, || {
        let mut file = fs::File::create(&ballast).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    });
    world.apply("late", &pod("late", IDLER));
    describe_has(&world, "late", &["No space left on device"]);
    let archive = world.folder("late.tar");
    write_image(&archive, "example.test/late:1");
    let refused = world.orlop(&["load", archive.to_str().unwrap()]);
    // The layers are those of an image that is there already; the record of it is new.
    assert!(refused.code == 1 && refused.stderr.contains("No space left"), "{refused:?}");
    untouched(&world, &before);
    assert!(world.orlop(&["images"]).ok().contains(IMAGE), "what was there is still there");
    world.run(Role::Node, || fs::remove_file(&ballast).unwrap());
    world.wait_ready("late");
    untouched(&world, &before);
}

#[test]
fn services_at_fault_are_named_too() {
    let world = World::new();
    let before = healthy(&world);
    world.apply("svc", &object("Service", "{name: svc}", "spec: {selector: {a: b}, ports: [{port: 99999}]}"));
    world.wait_until("the node tells of it", || {
        let text = world.orlop(&["node"]).stdout;
        (text.contains("svc") && text.contains("spec.ports[0].port")).then_some(())
    });
    untouched(&world, &before);
}
