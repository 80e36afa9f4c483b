//! The nodes that are compared: one without any proxy, one for each kind of kube-proxy's
//! rules, and Orlop's. All have two pods with a server, a pod with a client, a client outside.

use super::fleet::{Fleet, PORT};
use crate::memory::rss_mib;
use crate::pinned::Frontends;
use crate::probe::{self, PROGRAM, Server, Worker};
use crate::rules::{ClusterNet, ServicePort, iptables, nftables};
use crate::{clock, node};
use orlop_tests::{PlainNode, Role, World, labelled_pod, object};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Addresses of the pods on every node: two with servers, one with the client.
pub const PODS: [&str; 3] = ["10.244.7.2", "10.244.7.3", "10.244.7.4"];
/// The pods' range.
pub const POD_CIDR: &str = "10.244.7.0/24";
/// Services in one file of manifests.
const A_FILE: usize = 2_000;
/// How long all Services may take from manifests into the maps.
const MAPS_WITHIN: Duration = Duration::from_secs(120);

/// A node without Orlop.
pub struct Plain {
    pub node: PlainNode,
    _servers: [Server; 2],
}

impl Plain {
    pub fn new() -> Self {
        let node = PlainNode::new(POD_CIDR, &PODS);
        let serve = |pod: usize| Server::start(probe::here(node.pod_command(pod, PROGRAM)), probe::at(PODS[pod], PORT));
        let servers = [serve(0), serve(1)];
        Self { node, _servers: servers }
    }

    /// The first server's pod itself.
    pub fn direct(&self) -> SocketAddrV4 {
        probe::at(PODS[0], PORT)
    }

    pub fn client(&self) -> Worker {
        Worker::start(probe::here(self.node.pod_command(2, PROGRAM)))
    }

    pub fn outside(&self) -> Worker {
        Worker::start(probe::here(self.node.outside_command(PROGRAM)))
    }
}

/// What kube-proxy writes its rules with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    IptablesNft,
    IptablesLegacy,
    Nftables,
}

impl Rules {
    pub const ALL: [Self; 3] = [Self::IptablesNft, Self::IptablesLegacy, Self::Nftables];

    pub fn name(self) -> &'static str {
        match self {
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
        }
    }

    /// A node with these rules, and how long the full sync took.
    pub fn node(self, fleet: &Fleet, limit: Duration) -> Result<(Plain, Duration), String> {
        let plain = Plain::new();
        let took = self.load(|program| plain.node.node_command(program), (&fleet.services, &fleet.net), limit)?;
        Ok((plain, took))
    }

    /// Loads them where `command` runs its programs.
    pub fn load(
        self,
        command: impl Fn(&str) -> Command,
        (services, net): (&[ServicePort], &ClusterNet),
        limit: Duration,
    ) -> Result<Duration, String> {
        match self {
            Self::IptablesNft => feed(&mut command("iptables-nft-restore"), &iptables::restore(services, net), limit),
            Self::IptablesLegacy => {
                feed(&mut command("iptables-legacy-restore"), &iptables::restore(services, net), limit)
            }
            Self::Nftables => feed(command("nft").args(["-f", "-"]), &nftables::transaction(services, net), limit),
        }
    }
}

/// Runs a command with a text on its stdin, for so long at most.
fn feed(command: &mut Command, text: &str, limit: Duration) -> Result<Duration, String> {
    let lock = tempfile::NamedTempFile::new().map_err(|error| format!("make a lock: {error}"))?;
    // Others on this machine may load rules of their own meanwhile.
    command.env("XTABLES_LOCKFILE", lock.path());
    let began = Instant::now();
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("start {:?}: {error}", command.get_program()))?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early says why on its own.
            let _ = stdin.write_all(text.as_bytes());
        });
        wait(&mut child, began + limit)
    })?;
    Ok(began.elapsed())
}

fn wait(child: &mut Child, until: Instant) -> Result<(), String> {
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let text = child.stderr.take().and_then(|stderr| std::io::read_to_string(stderr).ok());
                let text = text.unwrap_or_default();
                return Err(format!("{status}: {}", text.lines().next().unwrap_or_default()));
            }
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("the rules were not loaded in time".into());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Orlop's node.
pub struct Orlop {
    // Before the world: they are processes of its pods.
    _servers: Vec<Server>,
    client: u32,
    pub direct: SocketAddrV4,
    pub loaded: Duration,
    pub agent_mib: f64,
    pub world: World,
}

impl Orlop {
    /// With the fleet's Services from manifests; what `loaded` says begins when they appear and
    /// ends when the last one is in the maps.
    pub fn new(fleet: &Fleet) -> Result<Self, String> {
        let world = node::quiet();
        for name in ["server-1", "server-2", "client"] {
            let app = name.split('-').next().unwrap_or(name);
            let pod = labelled_pod(
                name,
                &format!("app: {app}"),
                "containers: [{name: c, image: IMAGE, imagePullPolicy: Never, command: IDLE}]",
            );
            node::appear(&world, &[(name.to_owned(), pod)]);
        }
        let [one, two, client] = ["server-1", "server-2", "client"].map(|name| {
            let pod = world.wait_ready(name);
            (pod.containers[0].pid.expect("a pid"), pod.ips[0].clone())
        });
        let serve = |(pid, ip): &(u32, String)| Server::start(probe::in_pod(&world, *pid), probe::at(ip, PORT));
        let servers = vec![serve(&one), serve(&two)];
        // As every node of a cluster has it; the way from outside to a pod needs it.
        world.run(Role::Node, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("forward packets");
        world.run(Role::Outside, || {
            let route = ["route", "add", POD_CIDR, "via", Role::Node.address()];
            let status = Command::new("ip").args(route).status();
            assert!(status.is_ok_and(|status| status.success()), "outside gets a route to the pods");
        });
        let frontends = Frontends::of(&world);
        let began = node::appear(&world, &manifests(fleet));
        let all: Vec<SocketAddrV4> = fleet.services.iter().map(|s| SocketAddrV4::new(s.cluster_ip, s.port)).collect();
        let ended = frontends.wait_all(&all, MAPS_WITHIN).ok_or_else(|| format!("after {MAPS_WITHIN:?} not all"))?;
        let direct = probe::at(&one.1, PORT);
        let agent_mib = rss_mib(world.agent_pid());
        Ok(Self { _servers: servers, client: client.0, direct, loaded: ended - began, agent_mib, world })
    }

    pub fn client(&self) -> Worker {
        Worker::start(probe::in_pod(&self.world, self.client))
    }

    pub fn outside(&self) -> Worker {
        Worker::start(probe::here(self.world.outside_command(PROGRAM)))
    }
}

fn manifests(fleet: &Fleet) -> Vec<(String, String)> {
    let files = fleet.services.chunks(A_FILE).enumerate().map(|(file, services)| {
        let mut text = String::new();
        for service in services {
            let node_port = service.node_port.map(|port| format!(", nodePort: {port}")).unwrap_or_default();
            let kind = if service.node_port.is_some() { "NodePort" } else { "ClusterIP" };
            let (ip, port, to) = (service.cluster_ip, service.port, PORT);
            let spec = format!(
                "spec: {{type: {kind}, clusterIP: {ip}, selector: {{app: server}}, \
                 ports: [{{name: {}, port: {port}, targetPort: {to}{node_port}}}]}}\n",
                service.port_name
            );
            let _ = write!(text, "{}", object("Service", &format!("{{name: {}}}", service.name), &spec));
        }
        (format!("fleet-{file}"), text)
    });
    files.collect()
}

/// Says how far the bench is; nothing else is heard for minutes.
pub fn progress(text: &str) {
    println!("  {text} ({})", clock::load());
}
