//! Who is behind a Service, moment by moment.

use crate::services::Uplink;
use orlop_tests::{Place, Server, World, labelled_pod, object, read_greeting, reset};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";
const ADDR: &str = "10.96.0.60:80";

/// The Service `web` at [`ADDR`] with the target port 8080.
fn web() -> String {
    let spec = "spec: {clusterIP: 10.96.0.60, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}";
    object("Service", "{name: web}", spec)
}

fn serve(world: &World, name: &str) -> (Place, Server) {
    let place = world.in_pod(name);
    let server = place.serve_tcp("0.0.0.0:8080", name);
    (place, server)
}

/// A pod of `app: web` with a folder of the node at /state and, after it, more of its container.
fn stateful(name: &str, state: &Path, grace: u32, container: &str) -> String {
    let spec = format!(
        "terminationGracePeriodSeconds: {grace}
         volumes: [{{name: state, hostPath: {{path: {}}}}}]
         containers: [{{name: c, image: IMAGE, volumeMounts: [{{name: state, mountPath: /state}}], {container}}}]",
        state.display()
    );
    labelled_pod(name, "app: web", &spec)
}

/// Says when SIGTERM came, and stays.
const STAYS: &str =
    "command: [sh, -c, 'trap \": > /state/term\" TERM; : > /state/up; while :; do sleep inf & wait; done']";

fn folder(world: &World, name: &str) -> std::path::PathBuf {
    let folder = world.folder(name);
    fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn endpoints_follow_readiness() {
    let world = World::new();
    let state = folder(&world, "ready");
    let probe = "command: [sleep, inf], readinessProbe: {exec: {command: [test, -e, /state/ready]}, periodSeconds: 1, failureThreshold: 1}";
    world.apply("web", &(stateful("a", &state, 0, probe) + &labelled_pod("b", "app: web", SLEEP) + &web()));
    world.wait_pod("a", "runs and is not ready", |pod| pod.containers[0].state == "running" && !pod.ready);
    world.wait_active("web", &["b"]);
    let (_a, _b, host) = (serve(&world, "a"), serve(&world, "b"), world.on_host());
    let states = |world: &World| {
        let backends = world.find_service("web").unwrap().ports[0].backends.clone();
        backends.into_iter().map(|one| (one.pod.unwrap(), one.state)).collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!((&*states(&world)["default/a"], &*states(&world)["default/b"]), ("not-ready", "active"));
    assert!((0..50).all(|_| host.met(ADDR).server == "b"));
    fs::write(state.join("ready"), "").unwrap();
    world.wait_active("web", &["a", "b"]);
    let mut met: Vec<String> = (0..100).map(|_| host.met(ADDR).server).collect();
    met.sort();
    met.dedup();
    assert_eq!(met, ["a", "b"]);
    // One connection of before goes on when the pod is no longer ready.
    let mut kept = std::iter::repeat_with(|| host.connect(ADDR).unwrap())
        .map(|mut stream| (read_greeting(&mut stream).unwrap().server, stream))
        .find(|(server, _)| server == "a")
        .unwrap()
        .1;
    fs::remove_file(state.join("ready")).unwrap();
    world.wait_active("web", &["b"]);
    assert!((0..50).all(|_| host.met(ADDR).server == "b"));
    std::io::Write::write_all(&mut kept, b"still").unwrap();
    let mut back = [0; 5];
    std::io::Read::read_exact(&mut kept, &mut back).unwrap();
    assert_eq!(&back, b"still");
    // The last one goes: refused, at once and not after a time.
    world.delete("web");
    world.apply("rest", &(stateful("a", &state, 0, probe) + &web()));
    world.wait_gone("b");
    world.wait_active("web", &[]);
    let begun = Instant::now();
    assert_eq!(host.connect(ADDR).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(begun.elapsed().as_millis() < 500, "{:?}", begun.elapsed());
}

/// Connects all the time; nobody who has been told to end may be met by a connection
/// that began after. Returns how many connections there were.
fn never_after_sigterm(world: &World, state: &Path, dying: &str, end: impl FnOnce()) -> u64 {
    let host = world.on_host();
    let (stop, told) = (AtomicBool::new(false), state.join("term"));
    let (before, after) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let was_told = told.exists();
                    let count = if was_told { &after } else { &before };
                    match host.connect(ADDR) {
                        Ok(mut stream) => {
                            let met = read_greeting(&mut stream);
                            assert!(!(was_told && met.is_ok_and(|met| met.server == dying)), "met after SIGTERM");
                            reset(stream);
                        }
                        // With nobody left it is refused.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let enough = |count: &AtomicU64| (count.load(Ordering::Relaxed) > 50).then_some(());
        world.wait_until("clients connect", || enough(&before));
        end();
        world.wait_until("SIGTERM came", || told.exists().then_some(()));
        // It is still there, it would answer.
        world.wait_until("clients connect after", || enough(&after));
        assert_eq!(world.pod(dying).containers[0].state, "running");
        stop.store(true, Ordering::Relaxed);
    });
    before.load(Ordering::Relaxed) + after.load(Ordering::Relaxed)
}

#[test]
fn a_deleted_pod_is_out_before_it_gets_sigterm() {
    let world = World::new();
    let (one, two) = (folder(&world, "one"), folder(&world, "two"));
    world.apply("web", &web());
    world.apply("a", &stateful("a", &one, 20, STAYS));
    world.apply("b", &stateful("b", &two, 20, STAYS));
    world.wait_active("web", &["a", "b"]);
    let ((_a, of_a), (_b, _)) = (serve(&world, "a"), serve(&world, "b"));
    world.wait_until("the traps are set", || (one.join("up").exists() && two.join("up").exists()).then_some(()));
    let (host, addr) = (world.on_host(), format!("{}:8080", world.pod("a").ips[0]));
    never_after_sigterm(&world, &one, "a", || world.delete("a"));
    assert!(of_a.served() > 0);
    // Asked for by its own address it does answer: nothing but the Service left it out.
    assert_eq!(host.met(&addr).server, "a");
    // And the last one: nobody is left, refused.
    never_after_sigterm(&world, &two, "b", || world.delete("b"));
    kill(&world, "a");
    kill(&world, "b");
    world.wait_gone("a");
    world.wait_gone("b");
    assert_eq!(host.connect(ADDR).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_container_that_has_to_restart_is_out_before_it_gets_sigterm() {
    let world = World::new();
    let state = folder(&world, "alive");
    fs::write(state.join("alive"), "").unwrap();
    let probe = "livenessProbe: {exec: {command: [test, -e, /state/alive]}, periodSeconds: 1, failureThreshold: 1}";
    world.apply("web", &(web() + &stateful("a", &state, 20, &format!("{STAYS}, {probe}"))));
    world.wait_active("web", &["a"]);
    let (_a, _server) = serve(&world, "a");
    world.wait_until("the trap is set", || state.join("up").exists().then_some(()));
    never_after_sigterm(&world, &state, "a", || fs::remove_file(state.join("alive")).unwrap());
    // It ends; the next attempt is behind the Service again.
    fs::write(state.join("alive"), "").unwrap();
    kill(&world, "a");
    world.wait_pod("a", "restarted", |pod| pod.containers[0].restarts == 1 && pod.ready);
    world.wait_active("web", &["a"]);
    world.delete("web");
    kill(&world, "a");
}

/// Ends a container that hears SIGTERM and stays.
fn kill(world: &World, name: &str) {
    let pid = i32::try_from(world.pod(name).containers[0].pid.unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// How often the endpoints change in [`no_connection_fails_while_endpoints_change`].
const CHANGES: usize = 1000;
/// Pods whose labels change with each write; one more stays.
const CHANGING: [&str; 4] = ["b", "c", "d", "e"];

#[test]
fn no_connection_fails_while_endpoints_change_1000_times() {
    let mut world = World::new();
    world.apply("web", &web());
    world.apply("a", &labelled_pod("a", "app: web", SLEEP));
    world.apply("client", &labelled_pod("client", "app: client", SLEEP));
    let labels = |which: &[bool]| -> String {
        let app = |is_in: bool| if is_in { "app: web" } else { "app: out" };
        CHANGING.iter().zip(which).map(|(name, is_in)| labelled_pod(name, app(*is_in), SLEEP)).collect()
    };
    let mut which = [true, false, true, false];
    world.apply("changing", &labels(&which));
    for name in CHANGING.into_iter().chain(["a", "client"]) {
        world.wait_ready(name);
    }
    let servers: Vec<_> = CHANGING.into_iter().chain(["a"]).map(|name| serve(&world, name)).collect();
    let places = [world.in_pod("client"), world.on_host()];
    let uplink = Uplink::watch(&world);
    let (stop, failures, connects) = (AtomicBool::new(false), std::sync::Mutex::new(Vec::new()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // A backend that was taken out still serves, so every connection has to succeed.
                    match place.connect(ADDR).and_then(|mut stream| Ok((read_greeting(&mut stream)?, stream))) {
                        Ok((met, stream)) => {
                            assert_eq!(met.peer.to_string(), ADDR);
                            reset(stream);
                        }
                        Err(error) => failures.lock().unwrap().push(error.to_string()),
                    }
                    connects.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut changes = 0;
        while changes < CHANGES {
            // Each label that changes is one change of the endpoints, worked out and written by itself.
            which = which.map(|is_in| !is_in);
            world.apply("changing", &labels(&which));
            let names: Vec<&str> = ["a"]
                .into_iter()
                .chain(CHANGING.into_iter().zip(which).filter_map(|(name, is_in)| is_in.then_some(name)))
                .collect();
            world.wait_active("web", &names);
            changes += CHANGING.len();
            if changes == CHANGES / 2 {
                world.restart();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (failures, connects) = (failures.into_inner().unwrap(), connects.load(Ordering::Relaxed));
    assert!(failures.is_empty(), "{} of {connects} connections failed: {:?}", failures.len(), &failures[..1]);
    assert!(connects > 1000, "{connects} connections");
    let served: u64 = servers.iter().map(|(_, server)| server.served()).sum();
    assert_eq!(served, connects);
    uplink.has_seen_no_service(&world);
}
