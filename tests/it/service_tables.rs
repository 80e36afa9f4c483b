//! The eBPF tables: full, changed by somebody else, and what becomes of sockets whose backend dies.

use nix::errno::Errno;
use orlop_tests::{Options, Role, World, answer, ask, labelled_pod, object, pod};
use serde_json::Value;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const IDLE: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";
/// `bpf(2)` commands.
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_MAP_DELETE_ELEM: i64 = 3;
const BPF_MAP_GET_NEXT_KEY: i64 = 4;
const BPF_OBJ_GET: i64 = 7;

/// A pinned map of the node, written to past the agent.
struct Foreign(OwnedFd);

/// `union bpf_attr` for elements.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn bpf<T>(command: i64, mut attr: T) -> Result<i64, Errno> {
    // SAFETY: the callers' structures are what the command takes, and their pointers live through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<T>()) })
}

impl Foreign {
    fn open(world: &World, map: &str) -> Self {
        let path = CString::new(format!("/sys/fs/bpf/orlop/maps/{map}")).unwrap();
        let open = || bpf(BPF_OBJ_GET, Object { path: path.as_ptr() as u64, fd: 0, flags: 0 });
        let fd = world.run(Role::Node, open).unwrap_or_else(|errno| panic!("open {map}: {errno}"));
        // SAFETY: the kernel has just made it for us.
        Self(unsafe { OwnedFd::from_raw_fd(fd.try_into().unwrap()) })
    }

    fn element(&self, command: i64, key: &[u8], value: *mut u8) -> Result<i64, Errno> {
        let map = self.0.as_raw_fd().try_into().unwrap();
        let key = if key.is_empty() { 0 } else { key.as_ptr() as u64 };
        bpf(command, Element { map, pad: 0, key, value: value as u64, flags: 0 })
    }

    /// All keys, of `bytes` each.
    fn keys(&self, bytes: usize) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; bytes];
            let last = keys.last().map_or(&[][..], Vec::as_slice);
            match self.element(BPF_MAP_GET_NEXT_KEY, last, next.as_mut_ptr()) {
                Ok(_) => keys.push(next),
                Err(Errno::ENOENT) => return keys,
                Err(errno) => panic!("next key: {errno}"),
            }
        }
    }

    fn delete(&self, key: &[u8]) {
        self.element(BPF_MAP_DELETE_ELEM, key, std::ptr::null_mut()).expect("delete");
    }

    fn put(&self, key: &[u8], mut value: Vec<u8>) {
        self.element(BPF_MAP_UPDATE_ELEM, key, value.as_mut_ptr()).expect("put");
    }
}

fn service(name: &str, spec: &str) -> String {
    object("Service", &format!("{{name: {name}}}"), &format!("spec: {{{spec}}}"))
}

/// Messages of the node's own events with this reason.
fn events(world: &World, reason: &str) -> Vec<String> {
    let answer = world.ask("node").unwrap();
    let all = answer["node"]["problems"].as_array().cloned().unwrap_or_default();
    let own = all.into_iter().filter(|event| event["reason"] == reason);
    own.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_somebody_else_wrote_is_put_right() {
    let config = "services: {auditInterval: 1s}".to_owned();
    let world = World::with(Options { config: Some(config), ..Options::default() });
    let ports = "selector: {app: web}, clusterIP: 10.96.4.1, ports: [{port: 80, targetPort: 8080}]";
    world.apply("web", &(labelled_pod("b", "app: web", IDLE) + &service("web", ports)));
    world.wait_active("web", &["b"]);
    let (b, host) = (world.in_pod("b"), world.on_host());
    let _server = b.serve_tcp("0.0.0.0:8080", "b");
    assert_eq!(host.met("10.96.4.1:80").server, "b");
    assert_eq!(events(&world, "ServiceTablesRepaired"), Vec::<String>::new());

    let frontends = Foreign::open(&world, "FRONTENDS");
    frontends.keys(20).iter().for_each(|key| frontends.delete(key));
    world.wait_until("the frontend is back", || host.meet("10.96.4.1:80").ok());
    let told = world.wait_until("the repair is told", || events(&world, "ServiceTablesRepaired").pop());
    assert!(told.contains("10.96.4.1:80"), "{told}");

    // Something that nobody asked for goes: a frontend of this very Service on another address.
    let mut key = frontends.keys(20).remove(0);
    key[15] = 99;
    frontends.put(&key, vec![0; 32]);
    world.wait_until("it is gone", || (!frontends.keys(20).contains(&key)).then_some(()));
    let backends = Foreign::open(&world, "BACKENDS");
    backends.keys(4).iter().for_each(|key| backends.delete(key));
    world.wait_until("the backend is back", || host.meet("10.96.4.1:80").ok());

    // What follows from the Services and from the node, too.
    for (map, key_size) in [("CLUSTER_IPS", 16), ("NODE_ADDRS", 16), ("DEVICES", 4), ("NON_MASQUERADE", 20)] {
        let table = Foreign::open(&world, map);
        let before = table.keys(key_size).len();
        assert!(before > 0, "{map}");
        table.keys(key_size).iter().for_each(|key| table.delete(key));
        world.wait_until(&format!("{map} is whole"), || (table.keys(key_size).len() == before).then_some(()));
    }
}

#[test]
fn a_full_map_is_told_and_holds_up_no_other_service() {
    let config = "mapEntries: {FRONTENDS: 4}".to_owned();
    let world = World::with(Options { config: Some(config), ..Options::default() });
    let small = |n: usize| {
        let spec = format!("selector: {{app: web}}, clusterIP: 10.96.5.{n}, ports: [{{port: 80, targetPort: 8080}}]");
        service(&format!("small{n}"), &spec)
    };
    // Two frontends for one Service: with three others they are one too many.
    let ports = "[{name: a, port: 80, targetPort: 8080}, {name: b, port: 81, targetPort: 8080}]";
    let large = service("large", &format!("selector: {{app: web}}, clusterIP: 10.96.5.9, ports: {ports}"));
    world.apply("b", &labelled_pod("b", "app: web", IDLE));
    world.wait_ready("b");
    let (b, host) = (world.in_pod("b"), world.on_host());
    let _server = b.serve_tcp("0.0.0.0:8080", "b");
    for n in 1..4 {
        world.apply(&format!("small{n}"), &small(n));
        world.wait_until("it is served", || host.meet(&format!("10.96.5.{n}:80")).ok());
    }
    world.apply("large", &large);
    let told = world.wait_until("the full map is told", || events(&world, "TableFull").pop());
    for part in ["map FRONTENDS", "4 entries", "mapEntries: {FRONTENDS: 8}"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let text = world.orlop(&["tables", "-o", "json"]).ok();
    let tables: Vec<Value> = serde_json::from_str(&text).unwrap();
    let frontends = tables.iter().find(|table| table["map"] == "FRONTENDS").expect("a row");
    assert_eq!((&frontends["entries"], &frontends["max_entries"]), (&4.into(), &4.into()));
    for n in 1..4 {
        assert_eq!(host.met(&format!("10.96.5.{n}:80")).server, "b");
    }
    // Room is made, and what waited comes without anybody's doing.
    world.delete("small1");
    world.wait_until("the first port is served", || host.meet("10.96.5.9:80").ok());
    world.wait_until("the second port is served", || host.meet("10.96.5.9:81").ok());
    assert_eq!(host.met("10.96.5.2:80").server, "b");
}

#[test]
fn a_udp_socket_hears_that_its_backend_is_gone() {
    let world = World::new();
    let spec = "selector: {app: dns}, clusterIP: 10.96.6.1, ports: [{port: 53, protocol: UDP}]";
    world.apply("dns", &service("dns", spec));
    for name in ["b", "c"] {
        world.apply(name, &labelled_pod(name, "app: dns", IDLE));
    }
    world.apply("a", &pod("a", IDLE));
    world.wait_ready("a");
    world.wait_active("dns", &["b", "c"]);
    let places = ["b", "c"].map(|name| world.in_pod(name));
    let _servers = [("b", &places[0]), ("c", &places[1])].map(|(name, place)| place.serve_udp("0.0.0.0:53", name));
    let clients = [world.in_pod("a"), world.on_host()];
    // Of each place some that are connected to either, and one that is connected to nobody.
    let connected: Vec<_> = clients
        .iter()
        .flat_map(|client| (0..8).map(|_| client.udp_to("10.96.6.1:53").unwrap()))
        .map(|socket| {
            socket.send(b"q").unwrap();
            let (text, _) = answer(&socket);
            (socket, text[..1].to_owned())
        })
        .collect();
    let unconnected: Vec<_> = clients.iter().map(|client| client.udp("0.0.0.0:0")).collect();
    for socket in &unconnected {
        let _ = ask(socket, "10.96.6.1:53", "q");
    }
    world.delete("b");
    world.wait_gone("b");
    for (socket, server) in &connected {
        let lives = || {
            let sent = socket.send(b"q").and_then(|_| socket.recv(&mut [0; 9]));
            sent.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        };
        if server == "b" {
            // It is connected to nobody any more: the first call says why, or a send that there is no address.
            let errno = lives().unwrap_err();
            assert!([Errno::ECONNABORTED, Errno::EDESTADDRREQ].contains(&errno), "{errno}");
        } else {
            assert_eq!(lives().unwrap(), 3);
        }
    }
    for socket in &unconnected {
        assert_eq!(ask(socket, "10.96.6.1:53", "q").0, "c q");
    }
    for client in &clients {
        let socket = client.udp_to("10.96.6.1:53").unwrap();
        socket.send(b"q").unwrap();
        assert_eq!(answer(&socket).0, "c q");
    }
}
