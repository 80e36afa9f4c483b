//! NodePorts from outside whose backend is on another node: translated by tc or by XDP, or
//! sent on as they are (DSR), against kube-proxy's rules.

use super::turns::{Contestant, Portions, measure};
use super::worlds::Rules;
use super::{DIRECT, figures, table};
use crate::Effort;
use crate::clock::load;
use crate::figure::Report;
use crate::probe::{self, PROGRAM, Server, Worker};
use crate::rules::{ClusterNet, ServicePort};
use orlop_tests::{NodeAt, Nodes, NodesOptions, Options, PlainPair};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

/// Where the server listens.
const PORT: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 1, 1);
/// How long the nodes may take to hear of each other.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// The ways that Orlop has, and the configuration of its nodes.
const WAYS: [(&str, &str); 3] = [
    ("orlop", ""),
    ("orlop-xdp", "services: {nodePortAcceleration: native}"),
    ("orlop-dsr", "services: {nodePortMode: dsr}"),
];

/// Two nodes of Orlop's and their API server.
struct Pair {
    // Before the nodes: it is a process of a pod of theirs.
    _server: Server,
    nodes: Nodes,
}

pub fn run(effort: &Effort, report: &mut Report) {
    let node_port = probe::at(PlainPair::FIRST, NODE_PORT);
    let plain = PlainPair::new();
    let pod = probe::at(PlainPair::POD, PORT);
    let serve = |pair: &PlainPair| Server::start(probe::here(pair.pod_command(PROGRAM)), pod);
    let client = |pair: &PlainPair| Worker::start(probe::here(pair.outside_command(PROGRAM)));
    let mut servers = vec![serve(&plain)];
    let mut contestants = vec![Contestant { name: DIRECT, worker: client(&plain), address: pod }];
    let mut pairs = Vec::new();
    for rules in Rules::ALL {
        let pair = PlainPair::new();
        let limit = Duration::from_secs(10);
        match rules.load(|program| pair.first_command(program), (&[service(pod)], &net()), limit) {
            Ok(_) => {
                servers.push(serve(&pair));
                contestants.push(Contestant { name: rules.name(), worker: client(&pair), address: node_port });
                pairs.push(pair);
            }
            Err(problem) => report.missing(&format!("remote/{}", rules.name()), &problem),
        }
    }
    let mut nodes = Vec::new();
    for (name, config) in WAYS {
        match Pair::new(config, node_port) {
            Some(pair) => {
                contestants.push(Contestant { name, worker: pair.client(), address: node_port });
                nodes.push(pair);
            }
            None => report.missing(&format!("remote/{name}"), "a client outside does not reach the NodePort"),
        }
    }
    let rounds = if effort.quick { 10 } else { 40 };
    let measured = measure(&mut contestants, Portions { rounds, connects: 100, shorts: 400, kept: 200, stream_ms: 50 });
    let names: Vec<&str> = contestants.iter().map(|one| one.name).collect();
    report
        .table(table("From outside to a NodePort, the backend on another node", &names, &measured, |_| String::new()));
    figures("remote", &names, &measured, report);
    report.note(format!("remote: {}", load()));
    drop(contestants);
}

/// The Service as kube-proxy on the first node sees it.
fn service(endpoint: SocketAddrV4) -> ServicePort {
    ServicePort {
        namespace: "default".into(),
        name: "far".into(),
        port_name: "http".into(),
        cluster_ip: CLUSTER_IP,
        port: 80,
        node_port: Some(NODE_PORT),
        endpoints: vec![endpoint],
    }
}

fn net() -> ClusterNet {
    ClusterNet {
        pod_cidr: "10.244.0.0/16".into(),
        service_cidr: "10.96.0.0/16".into(),
        node_ip: PlainPair::FIRST.parse().expect("the node's address"),
    }
}

impl Pair {
    /// Nothing when the NodePort is not reached in time.
    fn new(config: &str, node_port: SocketAddrV4) -> Option<Self> {
        let node = |number| NodeAt::number(number).config(config);
        let options =
            NodesOptions { node: Options { log_level: "info", ..Options::default() }, ..NodesOptions::default() };
        let nodes = Nodes::with(&[node(1), node(2)], options);
        let ip = nodes.idle_pod("n2", "far")[0].clone();
        let pid = nodes["n2"].pod("far").containers[0].pid.expect("a pid");
        let server = Server::start(probe::in_pod(&nodes["n2"], pid), probe::at(&ip, PORT));
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far", "namespace": "default"},
            "spec": {
                "type": "NodePort", "clusterIP": CLUSTER_IP.to_string(), "clusterIPs": [CLUSTER_IP.to_string()],
                "ports": [{"name": "http", "port": 80, "targetPort": PORT, "nodePort": NODE_PORT}],
            },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "far-a", "namespace": "default", "labels": {"kubernetes.io/service-name": "far"}},
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [ip], "nodeName": "n2",
                "conditions": {"ready": true, "serving": true, "terminating": false},
            }],
        });
        nodes.server.create("services", service).expect("create the Service");
        nodes.server.create("endpointslices", slice).expect("create the EndpointSlice");
        let pair = Self { _server: server, nodes };
        let until = std::time::Instant::now() + REACHED_WITHIN;
        let outside = pair.nodes.outside();
        let reached = || outside.connect_within(&node_port.to_string(), Duration::from_millis(500)).is_ok();
        while std::time::Instant::now() < until {
            if reached() {
                // What was answered once is answered always, but for what only later packets meet.
                return pair.client().reaches(node_port).then_some(pair);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }

    fn client(&self) -> Worker {
        self.nodes.outside().run(|| Worker::start(probe::here(Command::new(PROGRAM))))
    }
}
