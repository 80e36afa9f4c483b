//! Two agents on one machine, alike in every name and number, do not meet.

use orlop_tests::{World, labelled_pod, object};

const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";

/// The same for both: a Service `web` at one address with one pod that says `name`.
fn furnish(world: &World, port: u16) {
    let spec =
        format!("spec: {{clusterIP: 10.96.0.90, selector: {{app: web}}, ports: [{{port: {port}, targetPort: 8080}}]}}");
    world.apply("web", &(labelled_pod("web", "app: web", SLEEP) + &object("Service", "{name: web}", &spec)));
    world.apply("client", &labelled_pod("client", "app: client", SLEEP));
}

#[test]
fn two_agents_with_the_same_everything() {
    let mut one = World::new();
    let two = World::new();
    furnish(&one, 80);
    furnish(&two, 80);
    let extra = object("Service", "{name: extra}", "spec: {selector: {app: web}, ports: [{port: 80}]}");
    two.apply("extra", &extra);
    for world in [&one, &two] {
        world.wait_ready("client");
        world.wait_active("web", &["web"]);
    }
    two.wait_active("extra", &["web"]);
    let ips = |world: &World| {
        let mut ips: Vec<String> = world.pods().into_iter().flat_map(|pod| pod.ips).collect();
        ips.sort();
        ips
    };
    assert_eq!(ips(&one), ["10.244.7.2", "10.244.7.3"]);
    assert_eq!(ips(&two), ips(&one));
    assert!(one.find_service("extra").is_none());
    let (of_one, of_two) = (one.in_pod("web"), two.in_pod("web"));
    let servers = (of_one.serve_tcp("0.0.0.0:8080", "one"), of_two.serve_tcp("0.0.0.0:8080", "two"));
    let clients = [(one.in_pod("client"), one.on_host()), (two.in_pod("client"), two.on_host())];
    let all_meet = |which: usize, name: &str| {
        for _ in 0..5 {
            for place in [&clients[which].0, &clients[which].1] {
                let met = place.met("10.96.0.90:80");
                assert_eq!((&*met.server, met.peer.to_string()), (name, "10.96.0.90:80".to_owned()));
            }
        }
    };
    all_meet(0, "one");
    let before = two.counters();
    assert_eq!(
        (before.backend("web:80", "web").connections, one.counters().backend("web:80", "web").connections),
        (0, 10)
    );
    all_meet(1, "two");
    assert_eq!((servers.0.served(), servers.1.served()), (10, 10));

    // One dies, the other does not notice; the dead one's node works on as well.
    let log = two.agent_log();
    one.kill();
    all_meet(1, "two");
    all_meet(0, "one");
    two.delete("extra");
    two.wait_until("the other agent works", || two.find_service("extra").is_none().then_some(()));
    assert!(!two.log_since(&log).contains("WARN"), "{}", two.log_since(&log));
    one.start();
    all_meet(0, "one");
    assert_eq!(one.counters().backend("web:80", "web").connections, 30);
    assert_eq!(two.counters().backend("web:80", "web").connections, 20);

    // One is taken down to the last, the other has everything it had.
    drop((servers.0, of_one));
    let [of_dead, of_alive] = clients;
    drop(of_dead);
    drop(one);
    assert_eq!(of_alive.0.met("10.96.0.90:80").server, "two");
    assert_eq!(of_alive.1.met("10.96.0.90:80").server, "two");
    assert_eq!(two.counters().backend("web:80", "web").connections, 22);
    let pods = two.pods();
    assert!(pods.iter().all(|pod| pod.ready && pod.containers[0].restarts == 0), "{pods:?}");
}
