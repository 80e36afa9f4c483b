//! Several nodes of one cluster, each with the real agent, on links with a router between.
//!
//! ```text
//!   n1 up0 10.99.0.1 ─┐                                       ┌─ up0 10.99.1.3 n3
//!   n2 up0 10.99.0.2 ─┴─ seg0 10.99.0.254  router  seg1 ──────┘
//!                              API server 10.99.250.1
//!                        seg9 10.99.9.254 ── out0 10.99.9.1  outside, a client
//! ```
//!
//! A node with the number `n` on the segment `s` has the address `10.99.S.N` (IPv6:
//! `fd99:S::N`), its pods `10.244.N.0/24` and `fd24:N::/112`. The router knows the segments
//! and no pod's address: a packet that comes to it with one is dropped there.
//!
//! ```no_run
//! use orlop_tests::{NodeAt, Nodes};
//! let mut nodes = Nodes::new(&[NodeAt::number(1), NodeAt::number(2).on_segment(1)]);
//! let there = nodes.idle_pod("n2", "b")[0].clone(); // Ready, its addresses
//! nodes.idle_pod("n1", "a");
//! let server = nodes["n2"].in_pod("b").serve_tcp("0.0.0.0:7000", "b"); // see `Place`
//! nodes.wait_reach("n1", "a", &format!("{there}:7000")); // the nodes may not know each other yet
//! let met = nodes["n1"].in_pod("a").met(&format!("{there}:7000"));
//! nodes.outside().met("10.99.0.1:30080"); // a client behind the router
//! nodes.join(NodeAt::number(3));
//! nodes.leave("n2");
//! ```
//!
//! Each node is a [`World`] (`nodes["n1"]`): its agent can be killed and started, its log
//! read, commands run in its namespaces. Objects of the cluster go to `nodes.server`, or as
//! YAML through [`Nodes::create`]. When it is dropped all pods are deleted, and each world
//! has to end as empty as it began.

mod at;
mod wiring;

pub use at::{Families, NodeAt};

use crate::namespaces::{Namespaces, ip};
use crate::world::{Options, World};
use crate::{Place, pod};
use at::{v4, v6};
use orlop_apiserver::ApiServer;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use wiring::default_routes;

/// The segment of the client outside.
const OUTSIDE: u8 = 9;
/// Where the API server listens, for nodes with IPv4 and without.
const SERVER: (&str, &str) = ("10.99.250.1", "fd99:250::1");

/// What differs from the usual cluster.
#[derive(Debug, Clone, Default)]
pub struct NodesOptions {
    /// Of the API server.
    pub server: orlop_apiserver::Options,
    /// Of every node; name, addresses and ranges are those of [`NodeAt`].
    pub node: Options,
}

/// See the module's text.
pub struct Nodes {
    worlds: Vec<World>,
    places: Vec<NodeAt>,
    /// The API server; it listens in the router's namespace.
    pub server: Arc<ApiServer>,
    options: Options,
    router: Arc<Namespaces>,
    outside: Namespaces,
    segments: BTreeSet<u8>,
}

impl Nodes {
    /// A cluster of these nodes, their agents running.
    #[must_use]
    pub fn new(nodes: &[NodeAt]) -> Self {
        Self::with(nodes, NodesOptions::default())
    }

    /// As [`Nodes::new`] with options.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn with(nodes: &[NodeAt], options: NodesOptions) -> Self {
        let (router, outside) = (Namespaces::network(), Namespaces::network());
        router.run(|| {
            // Answers may leave by another segment than the one their question came from (direct server return).
            for (setting, value) in [
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/default/rp_filter", "0"),
            ] {
                std::fs::write(format!("/proc/sys/net/{setting}"), value).expect("forward packets");
            }
            ip(&format!("addr add {}/32 dev lo", SERVER.0));
            ip(&format!("addr add {}/128 dev lo nodad", SERVER.1));
            // Whatever has no place here is not to wander.
            ip("route add unreachable default");
            ip("-6 route add unreachable default metric 4000");
        });
        let names = [SERVER.0, SERVER.1].map(str::to_owned);
        let mut server = options.server;
        server.names.extend(names);
        let listener = router.run(|| TcpListener::bind("[::]:0").expect("listen in the router's namespace"));
        let mut cluster = Self {
            worlds: Vec::new(),
            places: Vec::new(),
            server: Arc::new(ApiServer::on(listener, server)),
            options: options.node,
            router: Arc::new(router),
            outside,
            segments: BTreeSet::new(),
        };
        cluster.connect_outside();
        for node in nodes {
            cluster.join(node.clone());
        }
        cluster
    }

    /// One more node, its agent running.
    ///
    /// # Panics
    /// There is one of its number, or its agent does not start.
    pub fn join(&mut self, node: NodeAt) -> &World {
        assert!(self.places.iter().all(|other| other.number != node.number), "{} is there already", node.name());
        self.make_segment(node.segment);
        let options = Options {
            name: node.name(),
            ips: node.ips(),
            pod_cidr: String::new(),
            // Every frame of HTTP/2 would bury what the agent itself has to say.
            log_level: if self.options.log_level == "debug" {
                "debug,h2=info,hyper_util=info"
            } else {
                self.options.log_level
            },
            ..self.options.clone()
        };
        let mut world = World::wired(options, |inside| {
            self.wire(&node, inside);
            Arc::clone(&self.router)
        });
        let cidrs = node.pod_cidrs();
        let mut object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()},
            "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        });
        crate::member::merge(&mut object, &node.object);
        self.server.create("nodes", object).expect("the Node object");
        let kubeconfig = world.folder("kubeconfig");
        std::fs::write(&kubeconfig, self.kubeconfig(&node)).expect("write the kubeconfig");
        let config = world.options.config.get_or_insert_default();
        config.push_str(&format!("\nkubeconfig: {}\n{}\n", kubeconfig.display(), node.config));
        world.begin();
        self.places.push(node);
        self.worlds.push(world);
        self.worlds.last().expect("just added")
    }

    /// The node goes: its pods, its agent, its Node object and its machine.
    ///
    /// # Panics
    /// There is none, or it leaves something behind.
    pub fn leave(&mut self, name: &str) {
        let at = self.position(name);
        self.delete_pods(|node| node == name);
        let mut world = self.worlds.remove(at);
        self.places.remove(at);
        world.stop();
        self.server.delete("nodes", "", name, None).expect("delete the Node");
    }

    /// The node gets another host number: its agent is stopped, its link gets the addresses and loses
    /// the old ones, and its agent starts anew. Its name, pods and ranges stay. Returns the addresses.
    ///
    /// # Panics
    /// There is none.
    pub fn readdress(&mut self, name: &str, host: u8) -> Vec<String> {
        let at = self.position(name);
        let (world, node) = (&mut self.worlds[at], &self.places[at]);
        let ips = node.underlay.pick(v4(node.segment, host), v6(node.segment, u16::from(host)));
        world.stop();
        world.run(crate::Role::Node, || {
            for (old, new) in node.ips().iter().zip(&ips) {
                let (length, nodad) = if new.contains(':') { (64, " nodad") } else { (24, "") };
                ip(&format!("addr del {old}/{length} dev up0"));
                ip(&format!("addr add {new}/{length} dev up0{nodad}"));
            }
            default_routes(node.underlay, node.segment);
        });
        world.options.ips.clone_from(&ips);
        world.start();
        ips
    }

    /// Creates the objects of a YAML text; pods say themselves on which node they are, or a controller does.
    ///
    /// # Panics
    /// The server refuses one.
    pub fn create(&self, yaml: &str) -> Value {
        let mut stored = Value::Null;
        for object in crate::member::objects(yaml) {
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            stored = self.server.create(&format!("{kind}s"), object).expect("the server takes the object");
        }
        stored
    }

    /// A pod on a node, with a spec as for [`pod`]; waits until it is Ready and gives its addresses.
    ///
    /// # Panics
    /// It does not become Ready.
    pub fn run_pod(&self, node: &str, name: &str, spec: &str) -> Vec<String> {
        self.create(&pod(name, &format!("nodeName: {node}\n{spec}")));
        self[node].wait_ready(name).ips
    }

    /// As [`Nodes::run_pod`] with one container that does nothing.
    pub fn idle_pod(&self, node: &str, name: &str) -> Vec<String> {
        self.run_pod(node, name, "containers: [{name: c, image: IMAGE, command: IDLE}]")
    }

    /// Waits until a TCP server at `to` is reached from a pod: the nodes may only just hear of each other.
    ///
    /// # Panics
    /// It is not reached within [`crate::WAIT`].
    pub fn wait_reach(&self, node: &str, pod: &str, to: &str) {
        let from = self[node].in_pod(pod);
        self.wait_until(&format!("pod {pod} of {node} reaches {to}"), || {
            from.connect_within(to, std::time::Duration::from_millis(500)).ok().map(drop)
        });
    }

    /// Waits for a condition of the cluster.
    ///
    /// # Panics
    /// It does not come true; the message has all there is to know of the nodes.
    pub fn wait_until<T>(&self, what: &str, condition: impl Fn() -> Option<T>) -> T {
        crate::wait_for(condition).unwrap_or_else(|| panic!("waited in vain until {what}\n{}", self.report()))
    }

    /// The client outside: at [`Nodes::outside_ip`], with the router as its way to everywhere.
    #[must_use]
    pub fn outside(&self) -> Place {
        Place::in_namespace(&self.outside)
    }

    /// IPv4 and IPv6 address of the client outside.
    #[must_use]
    pub fn outside_ip(&self) -> (String, String) {
        (v4(OUTSIDE, 1), v6(OUTSIDE, 1))
    }

    /// The router between the segments.
    #[must_use]
    pub fn router(&self) -> Place {
        Place::in_namespace(&self.router)
    }

    /// Everything that helps to understand a failure.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = String::new();
        for world in &self.worlds {
            let tables = world.run(crate::Role::Node, || {
                ["addr", "route", "-6 route", "neigh", "-s link show type vxlan"].map(ip).join("")
            });
            text += &format!("=== {}\n{}\n--- tables\n{tables}\n", world.options.name, world.report());
        }
        text
    }

    fn position(&self, name: &str) -> usize {
        let at = self.worlds.iter().position(|world| world.options.name == name);
        at.unwrap_or_else(|| panic!("no node {name}"))
    }

    fn kubeconfig(&self, node: &NodeAt) -> String {
        let (user, group) = (format!("system:node:{}", node.name()), "system:nodes");
        let mut config: Value =
            serde_json::from_str(&self.server.kubeconfig_for(&user, &[group])).expect("the server writes JSON");
        let port = self.server.address().port();
        let host = if node.underlay == Families::V6 { format!("[{}]", SERVER.1) } else { SERVER.0.to_owned() };
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://{host}:{port}"));
        config.to_string()
    }

    fn ask_to_go(&self, pods: &[Value]) {
        for pod in pods {
            let name = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
            // One that goes meanwhile is what is wanted.
            let _ = self.server.delete("pods", &name("namespace"), &name("name"), None);
        }
    }

    /// Deletes pods by their node and waits until they are gone.
    fn delete_pods(&self, of: impl Fn(&str) -> bool) {
        let mine = || {
            let pods = self.server.list("pods").into_iter();
            pods.filter(|pod| of(pod["spec"]["nodeName"].as_str().unwrap_or_default())).collect::<Vec<Value>>()
        };
        self.ask_to_go(&mine());
        let gone = crate::wait_for(|| mine().is_empty().then_some(()));
        assert!(gone.is_some(), "pods stay at the API server: {:#}\n{}", Value::Array(mine()), self.report());
    }
}

impl Index<&str> for Nodes {
    type Output = World;

    fn index(&self, name: &str) -> &World {
        &self.worlds[self.position(name)]
    }
}

impl IndexMut<&str> for Nodes {
    fn index_mut(&mut self, name: &str) -> &mut World {
        let at = self.position(name);
        &mut self.worlds[at]
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.server.faults().clear();
        // Listening twice is fine; a test that stopped the server may have failed.
        self.server.start_again();
        if std::thread::panicking() {
            eprintln!("the nodes when the test failed:\n{}", self.report());
            self.ask_to_go(&self.server.list("pods"));
            return;
        }
        for world in &mut self.worlds {
            if world.agent.is_none() {
                world.start();
            }
        }
        self.delete_pods(|_| true);
    }
}
