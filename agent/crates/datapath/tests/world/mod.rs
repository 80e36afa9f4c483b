//! A node, pods and an outside host in network namespaces of their own, a BPF
//! file system in a private mount namespace, and a cgroup of their own. Nothing
//! in here has a route to a real device.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod frame;
pub mod nodes;
pub mod peers;
pub mod service;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use orlop_datapath::{Config, Datapath, PodAttachment};
use orlop_model::Ifindex;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The cgroup of a process is one for all its threads, so worlds take turns.
static TURN: Mutex<()> = Mutex::new(());

pub struct Netns(File);

impl Netns {
    /// A new network namespace with its loopback up.
    pub fn new() -> Self {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare a network namespace (needs root)");
            ip("link set lo up");
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        })
        .join()
        .unwrap()
    }

    /// The calling thread's.
    pub fn current() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Runs in this namespace, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
                .unwrap()
        })
    }

    /// What the kernel calls it.
    pub fn cookie(&self) -> u64 {
        self.open().cookie().unwrap()
    }

    pub fn open(&self) -> orlop_kernel::Netns {
        orlop_kernel::Netns::from_fd(self.0.try_clone().unwrap().into()).unwrap()
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// (received bytes, packets, sent bytes, packets) of a device of the calling thread's namespace.
pub fn statistics(device: &str) -> [u64; 4] {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':')).expect("the device");
    let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap()).collect();
    [fields[0], fields[1], fields[8], fields[9]]
}

/// How many TCP sockets of the calling thread's namespace are neither listening
/// nor waiting out their time.
pub fn open_connections() -> usize {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let text = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap());
    let states = text.iter().flat_map(|text| text.lines().skip(1)).filter_map(|line| line.split_whitespace().nth(3));
    states.filter(|state| ![TIME_WAIT, LISTEN].contains(state)).count()
}

/// `ip ARGS` in the calling thread's namespace.
pub fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("start ip");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

fn cgroup2_root() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() { unified.into() } else { "/sys/fs/cgroup".into() }
}

/// Moves the whole test process into a cgroup of its own and back.
struct Cgroup {
    path: PathBuf,
    home: PathBuf,
}

impl Cgroup {
    fn join(name: &str) -> Self {
        let root = cgroup2_root();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup version 2").to_owned();
        let path = root.join(format!("orlop-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        Self { path, home: root.join(own) }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::write(self.home.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        fs::remove_dir(&self.path).unwrap();
    }
}

pub struct Pod {
    pub ns: Netns,
    pub host: Ifindex,
    pub ip: IpAddr,
    pub attachment: PodAttachment,
}

pub struct World {
    pub datapath: Option<Datapath>,
    pub config: Config,
    cgroup: Cgroup,
    bpffs: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

pub fn ifindex(name: &str) -> Ifindex {
    Ifindex::new(nix::net::if_::if_nametoindex(name).unwrap()).unwrap()
}

impl World {
    /// Runs a test in a world of its own: the closure's thread is in the node's
    /// network and mount namespace.
    pub fn run(name: &'static str, test: impl FnOnce(&mut World) + Send + 'static) {
        let result = std::thread::spawn(move || {
            let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare (needs root)");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let bpffs = tempfile::tempdir().unwrap();
            mount(Some("bpf"), bpffs.path(), Some("bpf"), MsFlags::empty(), none).expect("mount a bpf file system");
            ip("link set lo up");
            for family in ["ipv4", "ipv6"] {
                let key = if family == "ipv4" { "ip_forward" } else { "conf/all/forwarding" };
                fs::write(format!("/proc/sys/net/{family}/{key}"), "1").unwrap();
            }
            let cgroup = Cgroup::join(name);
            let config = Config {
                bpf_dir: bpffs.path().join("orlop"),
                cgroup: Some(cgroup.path.clone()),
                map_entries: [("FLOWS".to_owned(), 4096), ("UDP_PEERS".to_owned(), 1024)].into(),
            };
            let mut world = World { datapath: None, config, cgroup, bpffs, _turn: turn };
            world.open();
            test(&mut world);
            world.datapath = None;
            orlop_datapath::remove_all(&world.config.bpf_dir).unwrap();
            assert!(!world.config.bpf_dir.exists());
        })
        .join();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }

    /// Opens, or opens again.
    pub fn open(&mut self) -> &Datapath {
        self.datapath = None;
        match Datapath::open(&self.config) {
            Ok(datapath) => self.datapath.insert(datapath),
            Err(err) => {
                let mut text = String::new();
                let mut cause: Option<&dyn std::error::Error> = Some(&err);
                while let Some(err) = cause {
                    text += &format!("{err}\n");
                    cause = err.source();
                }
                panic!("{text}");
            }
        }
    }

    /// Runs with the test process out of the node's cgroup, as a host outside the
    /// node is: sockets made meanwhile are not translated.
    pub fn out_of_cgroup<T>(&self, work: impl FnOnce() -> T) -> T {
        let procs = |folder: &Path| fs::write(folder.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        procs(&self.cgroup.home);
        let result = work();
        procs(&self.cgroup.path);
        result
    }

    pub fn datapath(&self) -> &Datapath {
        self.datapath.as_ref().unwrap()
    }

    /// Entries of `SOCKETS`.
    pub fn translated_sockets(&self) -> usize {
        let pin = aya::maps::MapData::from_pin(self.config.bpf_dir.join("maps/SOCKETS")).unwrap();
        let map = aya::maps::Map::LruHashMap(pin);
        aya::maps::HashMap::<_, u64, [u8; 48]>::try_from(map).unwrap().keys().count()
    }

    /// A pod with an IPv4 and an IPv6 address and a link-local gateway.
    pub fn pod(&self, number: u8) -> Pod {
        self.pod_in(Netns::new(), number)
    }

    /// A pod without IPv6, whose interface is silent by itself: no multicast
    /// listener reports.
    pub fn pod_v4(&self, number: u8) -> Pod {
        let ns = Netns::new();
        ns.run(|| fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap());
        self.pod_in(ns, number)
    }

    fn pod_in(&self, ns: Netns, number: u8) -> Pod {
        let six = ns.run(|| fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6").unwrap().trim() == "0");
        let (host, pod) = (format!("02:00:00:00:01:{number:02x}"), format!("02:00:00:00:02:{number:02x}"));
        let (v4, v6) = (format!("10.1.0.{number}"), format!("fd01::{number:x}"));
        let peer = ns.path();
        ip(&format!("link add pod{number} address {host} type veth peer name eth0 address {pod} netns {peer}"));
        let attachment = PodAttachment {
            ips: vec![v4.parse().unwrap(), v6.parse().unwrap()],
            pod_mac: [2, 0, 0, 0, 2, number],
            host_mac: [2, 0, 0, 0, 1, number],
            netns: ns.cookie(),
        };
        if !six {
            fs::write(format!("/proc/sys/net/ipv6/conf/pod{number}/disable_ipv6"), "1").unwrap();
        }
        // Before the first packet, so that counters and statistics start alike.
        let index = ifindex(&format!("pod{number}"));
        self.datapath().attach_pod(index, &attachment).unwrap();
        ns.run(|| ip("link set eth0 up"));
        ip(&format!("link set pod{number} up"));
        ns.run(|| {
            ip(&format!("addr add {v4}/32 dev eth0"));
            ip("route add 169.254.1.1 dev eth0 scope link");
            ip("route add default via 169.254.1.1 dev eth0");
            ip(&format!("neigh replace 169.254.1.1 lladdr {host} dev eth0 nud permanent"));
            if six {
                ip(&format!("addr add {v6}/128 dev eth0 nodad"));
                ip("-6 route add fe80::ecee dev eth0");
                ip("-6 route add default via fe80::ecee dev eth0");
                ip(&format!("neigh replace fe80::ecee lladdr {host} dev eth0 nud permanent"));
            }
        });
        for (addr, bits) in [(&v4, 32), (&v6, 128)].into_iter().take(if six { 2 } else { 1 }) {
            ip(&format!("route add {addr}/{bits} dev pod{number}"));
            ip(&format!("neigh replace {addr} lladdr {pod} dev pod{number} nud permanent"));
        }
        let host = index;
        Pod { ns, host, ip: attachment.ips[0], attachment }
    }

    /// A host outside the node at 192.0.2.1; the node is 192.0.2.2.
    pub fn outside(&self) -> Netns {
        let ns = Netns::new();
        let peer = ns.path();
        ip(&format!("link add uplink0 type veth peer name eth0 netns {peer}"));
        ip("link set uplink0 up");
        ip("addr add 192.0.2.2/24 dev uplink0");
        ip("addr add 2001:db8::2/64 dev uplink0 nodad");
        ns.run(|| {
            ip("link set eth0 up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("addr add 2001:db8::1/64 dev eth0 nodad");
        });
        self.datapath().attach_uplink(ifindex("uplink0")).unwrap();
        let own = ["192.0.2.2", "2001:db8::2", "127.0.0.1", "::1"].map(|addr| (addr.parse().unwrap(), true));
        self.datapath().set_node_addrs(&own, &[]).unwrap();
        ns
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.datapath = None;
        let _ = orlop_datapath::remove_all(&self.config.bpf_dir);
        nix::mount::umount2(self.bpffs.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}
