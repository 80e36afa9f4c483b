//! Probes: who is Ready, who is restarted, who is left alone while starting.

use orlop_tests::{World, pod};

/// A web server whose answers are files of /www.
const SERVER: &str = "image: IMAGE, command: [httpd, -f, -p, '8080', -h, /www]";

#[test]
fn readiness_follows_its_probe() {
    let world = World::new();
    let often = "periodSeconds: 1, failureThreshold: 1";
    for (name, probe) in [
        ("http", "httpGet: {path: /ready, port: web}"),
        ("exec", "exec: {command: [test, -e, /www/ready]}"),
        ("tcp", "tcpSocket: {port: 9090}"),
    ] {
        let volumes = "volumes: [{name: www, emptyDir: {}}]";
        let ports = "ports: [{name: web, containerPort: 8080}], volumeMounts: [{name: www, mountPath: /www}]";
        let spec =
            format!("{volumes}\ncontainers: [{{name: c, {SERVER}, {ports}, readinessProbe: {{{probe}, {often}}}}}]");
        world.apply(name, &pod(name, &spec));
    }
    let ready = |name: &str| world.wait_ready(name);
    let not_ready = |name: &str| world.wait_pod(name, "runs and is not ready", |p| p.status == "Running" && !p.ready);
    for name in ["http", "exec", "tcp"] {
        not_ready(name);
        world.wait_event(name, "Unhealthy", "Readiness probe failed");
    }
    for name in ["http", "exec"] {
        world.sh(name, "touch /www/ready").ok();
        ready(name);
        world.sh(name, "rm /www/ready").ok();
        let seen = not_ready(name);
        assert_eq!(seen.container("c").restarts, 0, "readiness restarts nothing");
    }
    world.sh("tcp", "httpd -p 9090 -h /www").ok();
    ready("tcp");
}

#[test]
fn liveness_restarts_and_startup_holds_it_back() {
    let world = World::new();
    let alive = "exec: {command: [test, -e, /alive]}, periodSeconds: 1, failureThreshold: 1";
    let deaf = r#"command: [sh, -c, "touch /alive; trap '' TERM; while true; do sleep 1; done"]"#;
    world.apply(
        "live",
        &pod("live", &format!("containers: [{{name: c, image: IMAGE, {deaf}, livenessProbe: {{{alive}}}}}]")),
    );
    let startup = "exec: {command: [test, -e, /started]}, periodSeconds: 1, failureThreshold: 60";
    world.apply(
        "slow",
        &pod("slow", &format!("containers: [{{name: c, image: IMAGE, command: IDLE, startupProbe: {{{startup}}}, livenessProbe: {{{alive}}}}}]")),
    );
    let live = world.wait_ready("live");
    world.sh("live", "rm /alive").ok();
    let again = world.wait_pod("live", "was restarted", |pod| pod.ready && pod.container("c").restarts == 1);
    assert_ne!(again.container("c").id, live.container("c").id);
    let last = again.container("c").last.clone().unwrap();
    assert!(last.contains("exit code 137"), "it does not hear SIGTERM: {last}");
    world.wait_event("live", "Unhealthy", "Liveness probe failed");
    world.wait_event("live", "Killing", "failed liveness probe, will be restarted");

    // /alive was never there, but nobody asks for it before the pod has started.
    let slow = world.wait_event("slow", "Unhealthy", "Startup probe failed");
    assert_eq!((slow.pod.container("c").restarts, slow.pod.ready), (0, false));
    world.sh("slow", "touch /alive /started").ok();
    let ready = world.wait_ready("slow");
    assert_eq!(ready.container("c").restarts, 0);
    assert!(world.detail("slow").unwrap().events.iter().all(|e| !e.message.contains("Liveness")));
    world.sh("slow", "rm /alive").ok();
    world.wait_pod("slow", "was restarted", |pod| pod.container("c").restarts == 1);
}
