//! The life of pods, from a manifest to nothing.

use orlop_tests::{World, config_map, labelled_pod, object, pod};

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

#[test]
fn containers_of_a_pod_share_network_ipc_and_uts() {
    let world = World::new();
    let spec = "containers: [{name: a, image: IMAGE, command: IDLE}, {name: b, image: IMAGE, command: IDLE}]";
    world.apply("two", &pod("two", spec));
    world.wait_ready("two");
    let both = |script: &str| ["a", "b"].map(|container| world.sh_in("two", container, script).ok());
    assert_eq!(both("hostname"), ["two", "two"]);
    for (namespace, shared) in [("net", true), ("ipc", true), ("uts", true), ("pid", false), ("mnt", false)] {
        let [a, b] = both(&format!("readlink /proc/self/ns/{namespace}"));
        assert_eq!(a == b, shared, "{namespace}: {a} {b}");
    }
    world
        .sh_in("two", "a", "echo seen > /dev/shm/file; mkdir /www; echo hi > /www/index.html; httpd -h /www -p 8080")
        .ok();
    assert_eq!(world.sh_in("two", "b", "cat /dev/shm/file; wget -qO- http://127.0.0.1:8080/").ok(), "seen\nhi");
}

#[test]
fn init_containers_run_in_order_and_a_failing_one_decides() {
    let world = World::new();
    let order = |name: &str| {
        format!(
            "{{name: {name}, image: IMAGE, command: [sh, -c, 'echo {name} >> /d/order'], volumeMounts: [{{name: d, mountPath: /d}}]}}"
        )
    };
    world.apply(
        "ordered",
        &pod(
            "ordered",
            &format!(
                "volumes: [{{name: d, emptyDir: {{}}}}]
                 initContainers: [{}, {}]
                 containers: [{{name: c, image: IMAGE, command: IDLE, volumeMounts: [{{name: d, mountPath: /d}}]}}]",
                order("one"),
                order("two")
            ),
        ),
    );
    for policy in ["Always", "OnFailure", "Never"] {
        let name = policy.to_lowercase();
        let spec = format!(
            "restartPolicy: {policy}
             initContainers: [{{name: i, image: IMAGE, command: [sh, -c, exit 3]}}]
             containers: [{{name: c, image: IMAGE, command: IDLE}}]"
        );
        world.apply(&name, &pod(&name, &spec));
    }
    let ordered = world.wait_ready("ordered");
    assert_eq!(world.sh("ordered", "cat /d/order").ok(), "one\ntwo");
    assert_eq!(ordered.container("one").reason.as_deref(), Some("Completed"));
    for name in ["always", "onfailure"] {
        let seen = world.wait_pod(name, "backs off", |pod| pod.status == "Init:CrashLoopBackOff");
        assert_eq!((seen.phase.as_str(), seen.container("i").restarts), ("Pending", 1));
        assert!(seen.container("i").last.as_deref().unwrap().contains("exit code 3"), "{seen:?}");
        assert_eq!(seen.container("c").id, None, "a main container has to wait for init containers");
    }
    let never = world.wait_pod("never", "Failed", |pod| pod.phase == "Failed");
    assert_eq!((never.status.as_str(), never.container("i").exit_code), ("Init:Error", Some(3)));
    assert_eq!((never.container("i").restarts, &never.container("c").id), (0, &None));
}

#[test]
fn commands_and_environments_expand() {
    let world = World::new();
    let secret = object("Secret", "{name: s}", "stringData: {password: hunter2}");
    let manifest = config_map("settings", "colour", "blue")
        + &secret
        + &pod("env", ENVIRONMENT)
        + &pod(
            "cwd",
            "
        restartPolicy: Never
        containers: [{name: c, image: IMAGE, workingDir: /var/tmp, args: [pwd]}]",
        );
    world.apply("env", &manifest);
    for name in ["env", "cwd"] {
        world.wait_pod(name, "Succeeded", |pod| pod.phase == "Succeeded");
    }
    let ip = world.pod("env").ips[0].clone();
    let expected = format!("blue hunter2 blue-env $(COLOUR) $(NOWHERE) n1 {ip} default 500");
    assert_eq!(world.orlop(&["logs", "env"]).ok(), expected);
    assert_eq!(world.orlop(&["logs", "cwd"]).ok(), "/var/tmp");
}

const ENVIRONMENT: &str = "
    restartPolicy: Never
    containers:
    - name: c
      image: IMAGE
      command: [echo, $(COLOUR), $(PASSWORD)]
      args: [$(BOTH), $$(COLOUR), $(NOWHERE), $(NODE), $(IP), $(NAMESPACE), $(CPU)]
      resources: {limits: {cpu: 500m}}
      env:
      - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
      - {name: PASSWORD, valueFrom: {secretKeyRef: {name: s, key: password}}}
      - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
      - {name: BOTH, value: $(COLOUR)-$(NAME)}
      - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
      - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}";

#[test]
fn exits_and_restart_policies() {
    let world = World::new();
    let once = |name: &str, policy: &str, command: &str| {
        let spec = format!(
            "{{restartPolicy: {policy}, containers: [{{name: c, image: IMAGE, command: [sh, -c, {command}]}}]}}"
        );
        world.apply(name, &object("Pod", &format!("{{name: {name}}}"), &format!("spec: {spec}")));
    };
    once("never-0", "Never", "exit 0");
    once("never-3", "Never", "exit 3");
    once("failure-0", "OnFailure", "exit 0");
    once("failure-1", "OnFailure", "exit 1");
    once("always-0", "Always", "exit 0");
    world.apply(
        "oom",
        &pod(
            "oom",
            "restartPolicy: Never
             containers: [{name: c, image: IMAGE, command: [tail, /dev/zero], resources: {limits: {memory: 16Mi}}}]",
        ),
    );
    for (name, phase, reason, code) in [
        ("never-0", "Succeeded", "Completed", 0),
        ("never-3", "Failed", "Error", 3),
        ("failure-0", "Succeeded", "Completed", 0),
        ("oom", "Failed", "OOMKilled", 137),
    ] {
        let pod = world.wait_pod(name, phase, |pod| pod.phase == phase);
        let container = pod.container("c");
        assert_eq!((container.reason.as_deref(), container.exit_code), (Some(reason), Some(code)), "{name}");
        assert_eq!((container.restarts, pod.status.as_str(), pod.ready), (0, reason, false), "{name}");
    }
    for (name, last) in [("failure-1", "Error, exit code 1"), ("always-0", "Completed, exit code 0")] {
        let pod = world.wait_pod(name, "backs off", |pod| pod.status == "CrashLoopBackOff");
        assert_eq!((pod.phase.as_str(), pod.container("c").restarts), ("Running", 1), "{name}");
        assert!(pod.container("c").last.as_deref().unwrap().starts_with(last), "{name}: {pod:?}");
        world.wait_event(name, "BackOff", "Back-off restarting failed container c");
    }
}

#[test]
fn a_container_has_its_grace_and_no_more() {
    let world = World::new();
    // What is past its deadline is stopped as a deleted pod is, but its end can still be seen.
    world.apply(
        "late",
        &pod(
            "late",
            r#"
            activeDeadlineSeconds: 5
            terminationGracePeriodSeconds: 2
            containers:
            - {name: polite, image: IMAGE, command: [sh, -c, "trap 'echo bye; exit 7' TERM; sleep inf & wait"]}
            - {name: deaf, image: IMAGE, command: [sh, -c, "trap '' TERM; while true; do sleep 1; done"]}
            "#,
        ),
    );
    let late = world.wait_pod("late", "both have ended", |pod| pod.containers.iter().all(|c| c.state == "terminated"));
    assert_eq!(late.phase, "Failed");
    assert_eq!(late.container("polite").exit_code, Some(7));
    assert_eq!(late.container("deaf").exit_code, Some(137));
    assert_eq!(world.orlop(&["logs", "late", "-c", "polite"]).ok(), "bye");
    let detail = world.wait_event("late", "DeadlineExceeded", "");
    let killing: Vec<_> = detail.events("Killing").iter().map(|event| event.message.clone()).collect();
    assert!(killing.contains(&"Stopping container polite".to_owned()), "{killing:?}");
}

#[test]
fn a_changed_spec_replaces_the_pod_and_a_label_does_not() {
    let world = World::new();
    world.apply("web", &pod("web", IDLER));
    let first = world.wait_ready("web");
    world.apply("web", &labelled_pod("web", "tier: front", IDLER));
    world.wait_until("the label shows", || (world.detail("web")?.labels.get("tier")? == "front").then_some(()));
    let labelled = world.pod("web");
    assert_eq!((&labelled.uid, &labelled.container("c").id), (&first.uid, &first.container("c").id));

    world.apply(
        "web",
        &labelled_pod("web", "tier: front", "hostname: other\ncontainers: [{name: c, image: IMAGE, command: IDLE}]"),
    );
    let changed = world.wait_pod("web", "is another", |pod| pod.ready && pod.uid != first.uid);
    assert_ne!(changed.container("c").id, first.container("c").id);
    assert_ne!(changed.ips, first.ips, "an address is not used again within a minute");
    assert_eq!(world.sh("web", "hostname").ok(), "other");
    world.delete("web");
    world.wait_gone("web");
}

#[test]
fn thirty_pods_at_once() {
    let world = World::new();
    let names: Vec<String> = (0..30).map(|n| format!("p{n}")).collect();
    world.apply("many", &names.iter().map(|name| pod(name, IDLER)).collect::<String>());
    world.wait_until("30 pods are Ready", || (world.pods().iter().filter(|pod| pod.ready).count() == 30).then_some(()));
    let addresses: std::collections::BTreeSet<String> = world.pods().iter().flat_map(|pod| pod.ips.clone()).collect();
    assert_eq!(addresses.len(), 30);
}
