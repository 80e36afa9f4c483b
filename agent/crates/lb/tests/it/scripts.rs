//! Runs `tests/scripts/lb/*.txt`: commands, and after them what the plan, the maps
//! or the services are to be. `ORLOP_BLESS=1` writes what they are.
//!
//! ```text
//! service NAME IP[,IP] [NAME:]PORT[->TARGET][/udp][@NODEPORT]... [headless] [publish-not-ready] [select=APP]
//! pod NAME IP[,IP] [ready|not-ready|terminating|gone] [APP] [NAME=PORT]...
//! remove service NAME
//! remove pod NAME
//! api service NAME …   as the API server has it; the words are in `listed.rs`
//! api slice NAME SERVICE …
//! api remove service NAME
//! api remove slice NAME
//! plan:        operations since the last `plan:`
//! maps:        the maps
//! services:    as `orlop services` sees them
//! conflicts:   frontends that two want
//! ```

use crate::listed;
use crate::whole::{check_whole, targets};
use orlop_lb::{
    Cluster, Compiler, Input, LbPlan, LbTables, MapOp, NamedPort, PodEndpoint, Service, ServicePort, ServiceType,
    TargetPort, Touched, describe, describe_tables, endpoints_from_pods,
};
use orlop_model::{PodKey, PodUid, Protocol, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The node of a script: what is wanted, the compiler, and the kernel's maps.
struct Node {
    services: BTreeMap<String, Service>,
    pods: BTreeMap<String, PodEndpoint>,
    compiler: Compiler,
    maps: LbTables,
    done: Vec<MapOp>,
    told: BTreeSet<ServiceKey>,
    cluster: Cluster,
    /// Seed of the faults: 1 in 10 operations fails. `None` for none.
    faults: Option<u64>,
    failed: usize,
}

impl Node {
    fn new(faults: Option<u64>) -> Self {
        Self {
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            compiler: Compiler::new(),
            maps: LbTables::default(),
            done: Vec::new(),
            told: BTreeSet::new(),
            cluster: Cluster::new(listed::NODE),
            faults,
            failed: 0,
        }
    }

    fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["service", name, ref rest @ ..] => drop(self.services.insert(name.into(), service(name, rest))),
            ["pod", name, ips, ref rest @ ..] => drop(self.pods.insert(name.into(), pod(name, ips, rest))),
            ["api", "service", name, ref rest @ ..] => {
                let touched = self.cluster.apply_service(listed::service(name, rest));
                self.touched(&touched);
            }
            ["api", "slice", name, of, ref rest @ ..] => {
                let touched = self.cluster.apply_slice(listed::slice(name, of, rest));
                self.touched(&touched);
            }
            ["api", "remove", "service", name] => {
                let touched = self.cluster.delete_service(&ServiceKey::new("default", name).unwrap());
                self.touched(&touched);
            }
            ["api", "remove", "slice", name] => {
                let touched = self.cluster.delete_slice("default", name);
                self.touched(&touched);
            }
            ["remove", "service", name] => drop(self.services.remove(name).expect("a known service")),
            ["remove", "pod", name] => drop(self.pods.remove(name).expect("a known pod")),
            _ => panic!("no such command: {command}"),
        }
        if let ["pod", name, ..] | ["remove", "pod", name] = words[..] {
            let uid = PodUid::new(format!("uid-{name}")).unwrap();
            let touched = self.cluster.set_local_pod(&uid, self.pods.get(name));
            self.touched(&touched);
        }
        self.follow();
    }

    fn touched(&mut self, touched: &Touched) {
        for key in touched {
            let plan = match self.cluster.input(key) {
                Some(input) => self.compiler.set_service(&input),
                None => self.compiler.remove_service(key),
            };
            self.carry_out(plan);
        }
    }

    /// Tells the compiler what changed and carries out its plans.
    fn follow(&mut self) {
        for key in std::mem::take(&mut self.told) {
            if !self.services.contains_key(key.name()) {
                let plan = self.compiler.remove_service(&key);
                self.carry_out(plan);
            }
        }
        for input in self.of_manifests() {
            self.told.insert(input.service.key.clone());
            let plan = self.compiler.set_service(&input);
            self.carry_out(plan);
        }
        assert_eq!(self.maps, self.compiler.tables());
    }

    fn inputs(&self) -> Vec<Input> {
        self.of_manifests().into_iter().chain(self.cluster.inputs()).collect()
    }

    fn of_manifests(&self) -> Vec<Input> {
        let pods: Vec<PodEndpoint> = self.pods.values().cloned().collect();
        let input =
            |service: &Service| Input { service: service.clone(), endpoints: endpoints_from_pods(service, &pods) };
        self.services.values().map(input).collect()
    }

    fn carry_out(&mut self, plan: LbPlan) {
        let mut plan = plan;
        for _ in 0..10_000 {
            let failed = plan.0.iter().position(|op| {
                if self.fails() {
                    return true;
                }
                self.maps.apply(op);
                check_whole(&self.maps);
                self.done.push(*op);
                false
            });
            if failed.is_none() {
                return;
            }
            self.failed += 1;
            plan = self.compiler.resync(self.maps.clone());
        }
        panic!("the maps never come to rest");
    }

    fn fails(&mut self) -> bool {
        let Some(seed) = &mut self.faults else { return false };
        // xorshift64: Marsaglia 2003.
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        seed.is_multiple_of(10)
    }

    fn restart(&mut self) {
        let (compiler, plan) = Compiler::restore(self.maps.clone(), self.inputs());
        assert!(plan.is_empty(), "after a restart: {:?}", plan.0);
        self.compiler = compiler;
    }

    /// Everything said once more changes nothing.
    fn repeat(&mut self) {
        for input in self.inputs() {
            let again = self.compiler.set_service(&input);
            assert!(again.is_empty(), "service {} again: {:?}", input.service.key, again.0);
        }
        assert!(self.compiler.resync(self.maps.clone()).is_empty());
    }

    fn show(&mut self, block: &str) -> Vec<String> {
        match block {
            "plan:" => std::mem::take(&mut self.done).iter().map(ToString::to_string).collect(),
            "maps:" => self.maps.to_string().lines().map(str::to_owned).collect(),
            "conflicts:" => self.compiler.conflicts().iter().map(ToString::to_string).collect(),
            "services:" => services(&self.compiler, self.inputs()),
            _ => panic!("no such block: {block}"),
        }
    }
}

fn services(compiler: &Compiler, inputs: Vec<Input>) -> Vec<String> {
    let mut lines = Vec::new();
    for view in describe(compiler, inputs) {
        lines.push(format!("{}/{} {}", view.namespace, view.name, view.kind));
        for port in view.ports {
            lines.push(format!("  port {:?} {}/{}", port.name, port.port, port.protocol));
            for frontend in port.frontends {
                let node = if frontend.node_port { " nodeport" } else { "" };
                let taken = frontend.taken_by.map(|owner| format!(" taken by {owner}")).unwrap_or_default();
                lines.push(format!("    at {}{node} active={}{taken}", frontend.address, frontend.active));
            }
            for backend in port.backends {
                let pod = backend.pod.unwrap_or_default();
                lines.push(format!("    to {}:{} {} {pod}", backend.addr, backend.port, backend.status));
            }
        }
    }
    lines
}

fn service(name: &str, words: &[&str]) -> Service {
    let mut service = Service {
        key: ServiceKey::new("default", name).unwrap(),
        created: None,
        kind: ServiceType::ClusterIP,
        headless: false,
        cluster_ips: Vec::new(),
        families: Vec::new(),
        family_policy: None,
        selector: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        publish_not_ready: false,
        ports: Vec::new(),
        external_name: None,
        other_proxy: false,
        more: None,
    };
    for word in words {
        match *word {
            "headless" => service.headless = true,
            "publish-not-ready" => service.publish_not_ready = true,
            app if app.starts_with("select=") => drop(service.selector.insert("app".into(), app[7..].into())),
            ips if service.cluster_ips.is_empty() && !service.headless => {
                service.cluster_ips = ips.split(',').map(|ip| ip.parse().expect(ips)).collect();
            }
            port => service.ports.push(service_port(port)),
        }
    }
    if service.ports.iter().any(|port| port.node_port.is_some()) {
        service.kind = ServiceType::NodePort;
    }
    service
}

fn service_port(text: &str) -> ServicePort {
    let (text, node_port) = text.split_once('@').map_or((text, None), |(text, node)| (text, Some(node)));
    let (text, udp) = text.strip_suffix("/udp").map_or((text, false), |text| (text, true));
    let (text, target) = text.split_once("->").map_or((text, None), |(text, target)| (text, Some(target)));
    let (name, port) = text.split_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().expect("a port");
    let target = target.map(|target| match target.parse() {
        Ok(number) => TargetPort::Number(number),
        Err(_) => TargetPort::Name(target.to_owned()),
    });
    ServicePort {
        name: name.to_owned(),
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        port,
        target_port: target.unwrap_or(TargetPort::Number(port)),
        node_port: node_port.map(|node| node.parse().expect("a node port")),
    }
}

fn pod(name: &str, ips: &str, words: &[&str]) -> PodEndpoint {
    let mut app = name.rsplit_once('-').map_or(name, |(app, _)| app);
    let (mut ready, mut terminating, mut ports) = (true, false, Vec::new());
    for word in words {
        match (*word, word.split_once('=')) {
            ("ready", _) => {}
            ("not-ready", _) => ready = false,
            ("terminating", _) => terminating = true,
            (_, Some((name, port))) => {
                let (name, port) = (name.to_owned(), port.parse().expect("a port"));
                ports.push(NamedPort { name, port, protocol: Protocol::Tcp });
            }
            (other, None) => app = other,
        }
    }
    PodEndpoint {
        key: PodKey::new("default", name).unwrap(),
        ips: ips.split(',').map(|ip| ip.parse().expect(ips)).collect(),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        ready,
        serving: ready,
        terminating,
        ports,
    }
}

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/scripts/lb");
    let entries = std::fs::read_dir(&dir).expect("the folder of scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 24, "scripts are missing from {}", dir.display());
    paths
}

fn commands(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.starts_with([' ', '#']) && !line.trim().is_empty());
    code.filter(|line| !line.ends_with(':'))
}

#[test]
fn goldens() {
    let bless = std::env::var_os("ORLOP_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut node = Node::new(None);
        let mut seen = String::new();
        for line in text.lines().filter(|line| !line.starts_with(' ')) {
            seen.push_str(line);
            seen.push('\n');
            if line.ends_with(':') && !line.starts_with('#') {
                node.show(line).iter().for_each(|line| seen.push_str(&format!("  {line}\n")));
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                node.run(line);
            }
        }
        if bless && seen != text {
            std::fs::write(&path, &seen).unwrap();
        } else if seen != text {
            wrong.push(format!("--- {}: now\n{seen}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nORLOP_BLESS=1 accepts this", wrong.join("\n"));
}

/// The same after every command, whatever fails on the way, however often the agent
/// starts, and when everything is said twice.
#[test]
fn faults_repeats_and_restarts() {
    let mut failed = 0;
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        for seed in 1..=20 {
            let mut calm = Node::new(None);
            let mut node = Node::new(Some(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
            for command in commands(&text) {
                calm.run(command);
                node.run(command);
                assert_eq!(targets(&node.maps), targets(&calm.maps), "{} {command}", path.display());
                node.repeat();
                node.restart();
                assert!(describe_tables(&node.maps).iter().all(|view| view.backends.iter().all(Option::is_some)));
            }
            failed += node.failed;
        }
    }
    assert!(failed > 100, "only {failed} faults were seeded");
}
