//! Several nodes, a router and a client outside, each in a network namespace of its own.
//!
//! ```text
//!  client 198.51.100.1 ── router ── bridge 192.0.2.254 ── node n 192.0.2.(10 + n) ── pods 10.1.n.x
//!         2001:db8:c::1                    2001:db8::fe           2001:db8::n                fd01:n::x
//! ```

use orlop_datapath::{Config, Datapath, NodeDevice, NodeSettings, PodAttachment, PodCounters};
use orlop_model::Ifindex;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::service::{Service, apply};
use super::{Netns, World, ifindex, ip};

/// How pods of other nodes are reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct,
    Vxlan,
}

pub struct Node {
    pub number: u8,
    pub ns: Netns,
    pub datapath: Option<Datapath>,
    config: Config,
    pub uplink: Ifindex,
    pub tunnel: Option<Ifindex>,
}

pub struct Cluster {
    pub router: Netns,
    pub client: Netns,
    pub nodes: Vec<Node>,
}

fn forwarding() {
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
    }
}

fn bridge(args: &str) {
    let output = std::process::Command::new("bridge").args(args.split_whitespace()).output().expect("start bridge");
    assert!(output.status.success(), "bridge {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Hardware address of a node's tunnel device.
fn tunnel_mac(node: u8) -> String {
    format!("02:00:00:00:0a:{node:02x}")
}

impl Cluster {
    /// `count` nodes, numbered from 1.
    pub fn new(world: &World, count: u8, way: Way) -> Self {
        let (router, client) = (Netns::new(), Netns::new());
        let to_client = client.path();
        router.run(|| {
            forwarding();
            ip(&format!("link add client type veth peer name eth0 netns {to_client}"));
            ip("link set client up");
            ip("addr add 198.51.100.254/24 dev client");
            ip("addr add 2001:db8:c::fe/64 dev client nodad");
            ip("link add nodes type bridge");
            ip("link set nodes up");
            ip("addr add 192.0.2.254/24 dev nodes");
            ip("addr add 2001:db8::fe/64 dev nodes nodad");
        });
        client.run(|| {
            ip("link set eth0 up");
            ip("addr add 198.51.100.1/24 dev eth0");
            ip("addr add 2001:db8:c::1/64 dev eth0 nodad");
            ip("route add default via 198.51.100.254");
            ip("-6 route add default via 2001:db8:c::fe");
        });
        let nodes = (1..=count).map(|number| Node::new(world, &router, number, count, way)).collect();
        Self { router, client, nodes }
    }

    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// The same services on every node, as each node's tables have them: `at(n)` is node n's.
    pub fn serve(&self, at: impl Fn(u8) -> Vec<Service>) {
        for node in &self.nodes {
            apply(node.datapath(), &at(node.number));
        }
    }

    /// The router sends an address's packets to a node.
    pub fn route(&self, addr: &str, node: u8) {
        let via = if addr.contains(':') { format!("2001:db8::{node}") } else { format!("192.0.2.{}", 10 + node) };
        self.router.run(|| ip(&format!("route add {addr} via {via}")));
    }
}

impl Node {
    fn new(world: &World, router: &Netns, number: u8, count: u8, way: Way) -> Self {
        let ns = Netns::new();
        let peer = ns.path();
        router.run(|| {
            ip(&format!(
                "link add node{number} type veth peer name uplink0 address 02:00:00:00:09:{number:02x} netns {peer}"
            ));
            ip(&format!("link set node{number} master nodes"));
            ip(&format!("link set node{number} up"));
        });
        let bpf_dir = world.config.bpf_dir.with_file_name(format!("node{number}"));
        let config = Config { bpf_dir, cgroup: None, ..world.config.clone() };
        let (uplink, tunnel, datapath) = ns.run(|| {
            forwarding();
            ip("link set uplink0 up");
            ip(&format!("addr add 192.0.2.{}/24 dev uplink0", 10 + number));
            ip(&format!("addr add 2001:db8::{number}/64 dev uplink0 nodad"));
            ip("route add default via 192.0.2.254");
            ip("-6 route add default via 2001:db8::fe");
            let tunnel = (way == Way::Vxlan).then(|| tunnel(number));
            for other in (1..=count).filter(|other| *other != number) {
                way_to(number, other, way);
            }
            (ifindex("uplink0"), tunnel, Datapath::open(&config).unwrap())
        });
        let node = Self { number, ns, datapath: Some(datapath), config, uplink, tunnel };
        node.tell(count);
        node
    }

    /// What the agent tells the data path of the node.
    fn tell(&self, count: u8) {
        let (number, datapath) = (self.number, self.datapath());
        let v4 = |node: u8| Ipv4Addr::new(192, 0, 2, 10 + node);
        let v6 = |node: u8| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, node.into());
        let device = NodeDevice {
            device: self.uplink,
            snat_v4: Some(v4(number)),
            snat_v6: Some(v6(number)),
            mac: [2, 0, 0, 0, 9, number],
            mtu: 1500,
            is_tunnel: false,
            answers_neighbours: true,
        };
        let tunnel = self.tunnel.map(|tunnel| NodeDevice {
            device: tunnel,
            snat_v4: Some(Ipv4Addr::new(10, 1, number, 0)),
            snat_v6: Some(Ipv6Addr::new(0xfd01, number.into(), 0, 0, 0, 0, 0, 0)),
            mac: [0; 6],
            mtu: 1450,
            is_tunnel: true,
            answers_neighbours: false,
        });
        let devices: Vec<NodeDevice> = std::iter::once(device).chain(tunnel).collect();
        self.ns.run(|| {
            for device in &devices {
                datapath.attach_uplink(device.device).unwrap();
            }
        });
        datapath.set_devices(&devices).unwrap();
        datapath.set_settings(&NodeSettings::default()).unwrap();
        datapath.set_non_masquerade(&["10.1.0.0/16".parse().unwrap(), "fd01::/16".parse().unwrap()]).unwrap();
        let own = [(v4(number).into(), true), (v6(number).into(), true)];
        let others = (1..=count).filter(|other| *other != number);
        let peers: Vec<_> = others.flat_map(|other| [v4(other).into(), v6(other).into()]).collect();
        datapath.set_node_addrs(&own, &peers).unwrap();
    }

    pub fn datapath(&self) -> &Datapath {
        self.datapath.as_ref().unwrap()
    }

    /// Opens the data path again, as a new agent does.
    pub fn reopen(&mut self) {
        self.datapath = None;
        self.datapath = Some(self.ns.run(|| Datapath::open(&self.config).unwrap()));
    }

    pub fn uplink_counters(&self) -> PodCounters {
        let all = self.datapath().pod_counters().unwrap();
        all.into_iter().find(|(device, _)| *device == self.uplink).unwrap().1
    }

    /// A pod with addresses 10.1.NODE.number and fd01:NODE::number.
    pub fn pod(&self, number: u8) -> Netns {
        let ns = Netns::new();
        let node = self.number;
        let (host, mac) =
            (format!("02:00:00:{node:02x}:01:{number:02x}"), format!("02:00:00:{node:02x}:02:{number:02x}"));
        let (v4, v6) = (format!("10.1.{node}.{number}"), format!("fd01:{node}::{number:x}"));
        let attachment = PodAttachment {
            ips: vec![v4.parse().unwrap(), v6.parse().unwrap()],
            pod_mac: [2, 0, 0, node, 2, number],
            host_mac: [2, 0, 0, node, 1, number],
            netns: ns.cookie(),
        };
        let peer = ns.path();
        let name = format!("pod{number}");
        self.ns.run(|| {
            ip(&format!("link add {name} address {host} type veth peer name eth0 address {mac} netns {peer}"));
            self.datapath().attach_pod(ifindex(&name), &attachment).unwrap();
            ip(&format!("link set {name} up"));
        });
        ns.run(|| {
            ip("link set eth0 up");
            ip(&format!("addr add {v4}/32 dev eth0"));
            ip(&format!("addr add {v6}/128 dev eth0 nodad"));
            ip("route add 169.254.1.1 dev eth0 scope link");
            ip("route add default via 169.254.1.1 dev eth0");
            ip("-6 route add fe80::ecee dev eth0");
            ip("-6 route add default via fe80::ecee dev eth0");
            for gateway in ["169.254.1.1", "fe80::ecee"] {
                ip(&format!("neigh replace {gateway} lladdr {host} dev eth0 nud permanent"));
            }
        });
        self.ns.run(|| {
            for (addr, bits) in [(&v4, 32), (&v6, 128)] {
                ip(&format!("route add {addr}/{bits} dev {name}"));
                ip(&format!("neigh replace {addr} lladdr {mac} dev {name} nud permanent"));
            }
        });
        ns
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.datapath = None;
        let removed = self.ns.run(|| orlop_datapath::remove_all(&self.config.bpf_dir));
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// The tunnel device of the node whose namespace the thread is in.
fn tunnel(node: u8) -> Ifindex {
    let mac = tunnel_mac(node);
    ip(&format!(
        "link add tunnel0 address {mac} mtu 1450 type vxlan id 7 dstport 8472 local 192.0.2.{} nolearning",
        10 + node
    ));
    ip(&format!("addr add 10.1.{node}.0/32 dev tunnel0"));
    ip(&format!("addr add fd01:{node}::/128 dev tunnel0 nodad"));
    ip("link set tunnel0 up");
    ifindex("tunnel0")
}

fn way_to(node: u8, other: u8, way: Way) {
    if way == Way::Direct {
        ip(&format!("route add 10.1.{other}.0/24 via 192.0.2.{}", 10 + other));
        ip(&format!("-6 route add fd01:{other}::/64 via 2001:db8::{other}"));
        return;
    }
    let mac = tunnel_mac(other);
    bridge(&format!("fdb append {mac} dev tunnel0 dst 192.0.2.{}", 10 + other));
    ip(&format!("neigh replace 10.1.{other}.0 lladdr {mac} dev tunnel0 nud permanent"));
    ip(&format!("neigh replace fd01:{other}:: lladdr {mac} dev tunnel0 nud permanent"));
    ip(&format!("route add 10.1.{other}.0/24 via 10.1.{other}.0 dev tunnel0 onlink src 10.1.{node}.0"));
    ip(&format!("-6 route add fd01:{other}::/64 via fd01:{other}:: dev tunnel0 onlink src fd01:{node}::"));
}
