//! The node of a script: what is wanted, the compiler, and the kernel's maps.

use super::words::{host_ports, pod, service, uid};
use crate::listed;
use crate::whole::{check_whole, leads};
use orlop_lb::{
    Assignment, Audit, Cluster, Compiler, HostPorts, Input, LbPlan, LbTables, MapOp, PodEndpoint, Service, ServiceCidr,
    ServiceSettings, Touched, assign, describe, describe_host_ports, endpoints_from_pods,
};
use orlop_model::ServiceKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

pub struct Node {
    services: BTreeMap<String, Service>,
    pods: BTreeMap<String, PodEndpoint>,
    host_ports: BTreeMap<String, HostPorts>,
    cidrs: Vec<ServiceCidr>,
    assignment: Assignment,
    settings: ServiceSettings,
    compiler: Compiler,
    pub maps: LbTables,
    done: Vec<MapOp>,
    dead: BTreeSet<SocketAddr>,
    /// Maglev tables at the last `spread:`.
    spread: BTreeMap<String, Vec<SocketAddr>>,
    told: BTreeSet<ServiceKey>,
    cluster: Cluster,
    /// Seed of the faults: 1 in 10 operations fails. `None` for none.
    faults: Option<u64>,
    pub failed: usize,
}

impl Node {
    pub fn new(faults: Option<u64>) -> Self {
        Self {
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            host_ports: BTreeMap::new(),
            cidrs: Vec::new(),
            assignment: Assignment::default(),
            settings: ServiceSettings::default(),
            compiler: Compiler::new(),
            maps: LbTables::default(),
            done: Vec::new(),
            dead: BTreeSet::new(),
            spread: BTreeMap::new(),
            told: BTreeSet::new(),
            cluster: Cluster::new(listed::NODE),
            faults,
            failed: 0,
        }
    }

    pub fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["api", ref rest @ ..] => {
                let touched = self.api(rest);
                self.touched(&touched);
            }
            ["zone", name] => {
                let touched = self.cluster.set_zone(Some(name).filter(|name| *name != "-"));
                self.touched(&touched);
            }
            ["service", name, ref rest @ ..] => drop(self.services.insert(name.into(), service(name, rest))),
            ["pod", name, ips, ref rest @ ..] => drop(self.pods.insert(name.into(), pod(name, ips, rest))),
            ["host-ports", name, ref rest @ ..] => {
                let ports = host_ports(&self.pods[name], rest);
                let plan = self.compiler.set_host_ports(&ports);
                self.host_ports.insert(name.into(), ports);
                self.carry_out(plan);
            }
            ["remove", "host-ports", name] => {
                self.host_ports.remove(name).expect("known host ports");
                let plan = self.compiler.remove_host_ports(&uid(name));
                self.carry_out(plan);
            }
            ["remove", "service", name] => drop(self.services.remove(name).expect("a known service")),
            ["remove", "pod", name] => drop(self.pods.remove(name).expect("a known pod")),
            ["cidrs", cidrs] => self.cidrs = cidrs.split(',').map(|cidr| cidr.parse().expect("a CIDR")).collect(),
            ["settings", ref rest @ ..] => {
                let maglev = rest.iter().find_map(|word| word.strip_prefix("maglev="));
                let maglev = maglev.map(|size| size.parse().expect("a size"));
                self.settings = ServiceSettings { maglev, dsr: rest.contains(&"dsr") };
                let plan = self.start();
                self.carry_out(plan);
            }
            _ => panic!("no such command: {command}"),
        }
        if let ["pod", name, ..] | ["remove", "pod", name] = words[..] {
            let touched = self.cluster.set_local_pod(&uid(name), self.pods.get(name));
            self.touched(&touched);
        }
        self.follow();
    }

    fn api(&mut self, words: &[&str]) -> Touched {
        match *words {
            ["service", name, ref rest @ ..] => self.cluster.apply_service(listed::service(name, rest)),
            ["slice", name, of, ref rest @ ..] => self.cluster.apply_slice(listed::slice(name, of, rest)),
            ["remove", "service", name] => self.cluster.delete_service(&ServiceKey::new("default", name).unwrap()),
            ["remove", "slice", name] => self.cluster.delete_slice("default", name),
            _ => panic!("no such command: api {words:?}"),
        }
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
        if !self.cidrs.is_empty() {
            let services =
                self.services.values().cloned().map(|service| Service { cluster_ips: Vec::new(), ..service });
            let (services, errors) = assign(services.collect(), &self.cidrs, &mut self.assignment);
            assert_eq!(errors, []);
            self.services = services.into_iter().map(|service| (service.key.name().to_owned(), service)).collect();
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
            self.dead.extend(plan.dead_udp_backends());
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

    fn start(&mut self) -> LbPlan {
        let host_ports = self.host_ports.values().cloned();
        let (compiler, plan) = Compiler::restore_with(self.settings, self.maps.clone(), self.inputs(), host_ports);
        self.compiler = compiler;
        plan
    }

    pub fn restart(&mut self) {
        let plan = self.start();
        assert!(plan.is_empty(), "after a restart: {:?}", plan.0);
    }

    /// Everything said once more changes nothing, and an audit finds nothing.
    pub fn repeat(&mut self) {
        for input in self.inputs() {
            let again = self.compiler.set_service(&input);
            assert!(again.is_empty(), "service {} again: {:?}", input.service.key, again.0);
        }
        for ports in self.host_ports.values() {
            let again = self.compiler.set_host_ports(ports);
            assert!(again.is_empty(), "host ports of {} again: {:?}", ports.pod, again.0);
        }
        let report = audit(&self.compiler, &self.maps);
        assert!(report.is_good(), "{report:?}");
        assert!(self.compiler.resync(self.maps.clone()).is_empty());
    }

    pub fn show(&mut self, block: &str) -> Vec<String> {
        match block {
            "plan:" => std::mem::take(&mut self.done).iter().map(ToString::to_string).collect(),
            "maps:" => self.maps.to_string().lines().map(str::to_owned).collect(),
            "conflicts:" => self.compiler.conflicts().iter().map(ToString::to_string).collect(),
            "services:" => services(&self.compiler, self.inputs()),
            "health:" => self.health(),
            "host-ports:" => host_port_lines(&self.compiler),
            "dead-udp:" => std::mem::take(&mut self.dead).iter().map(ToString::to_string).collect(),
            "spread:" => self.spread(),
            _ => panic!("no such block: {block}"),
        }
    }

    fn health(&self) -> Vec<String> {
        let number = |count: Option<u32>| count.map_or("-".to_owned(), |count| count.to_string());
        let line = |one: orlop_lb::HealthCheck<'_>| {
            assert_eq!(self.compiler.health_check(one.service), Some(one));
            format!("{} on {}: IPv4 {} IPv6 {}", one.service, one.port, number(one.ipv4), number(one.ipv6))
        };
        let mut lines: Vec<String> = self.compiler.health_checks().map(line).collect();
        lines.sort();
        lines
    }

    fn spread(&mut self) -> Vec<String> {
        let (mut lines, mut now) = (Vec::new(), BTreeMap::new());
        let text = |key: &orlop_ebpf_abi::FrontendKey| orlop_lb::addr_ip(key.addr).to_string();
        for (key, lead) in leads(&self.maps).into_iter().filter(|(_, lead)| !lead.maglev.is_empty()) {
            let mut places: BTreeMap<SocketAddr, usize> = BTreeMap::new();
            lead.maglev.iter().for_each(|backend| *places.entry(*backend).or_default() += 1);
            let places: Vec<String> = places.iter().map(|(backend, places)| format!("{backend} {places}")).collect();
            let before = self.spread.get(&text(&key)).map_or(&[][..], Vec::as_slice);
            let moved = before.iter().zip(&lead.maglev).filter(|(old, new)| old != new).count();
            lines.push(format!("{} of {}: {}, moved {moved}", text(&key), lead.maglev.len(), places.join(", ")));
            now.insert(text(&key), lead.maglev);
        }
        // One that is gone is remembered: it may come again.
        self.spread.extend(now);
        lines
    }
}

/// All elements of these maps, one by one.
pub fn audit(compiler: &Compiler, maps: &LbTables) -> orlop_lb::AuditReport {
    let mut audit = Audit::new();
    maps.frontends.iter().for_each(|(key, value)| {
        audit.frontend(compiler, key, value);
    });
    maps.slots.iter().for_each(|(key, value)| {
        audit.slots(compiler, key, value);
    });
    maps.backends.iter().for_each(|(id, value)| {
        audit.backend(compiler, *id, value);
    });
    maps.source_ranges.iter().for_each(|key| {
        audit.source_range(compiler, key);
    });
    audit.finish(compiler)
}

fn services(compiler: &Compiler, inputs: Vec<Input>) -> Vec<String> {
    let mut lines = Vec::new();
    for view in describe(compiler, inputs) {
        let mut line = format!("{}/{} {}", view.namespace, view.name, view.kind);
        let words = [
            (view.external_local, "external-local".to_owned()),
            (view.internal_local, "internal-local".to_owned()),
            (view.session_affinity_s.is_some(), format!("affinity={}", view.session_affinity_s.unwrap_or(0))),
            (!view.source_ranges.is_empty(), format!("ranges={}", view.source_ranges.join(","))),
            (view.health_check_node_port.is_some(), format!("health={}", view.health_check_node_port.unwrap_or(0))),
            (view.other_proxy, "other-proxy".to_owned()),
        ];
        for (_, word) in words.into_iter().filter(|(given, _)| *given) {
            line.push(' ');
            line.push_str(&word);
        }
        lines.push(line);
        for port in view.ports {
            lines.push(format!("  port {:?} {}/{}", port.name, port.port, port.protocol));
            for frontend in port.frontends {
                let kind = match frontend.kind {
                    orlop_lb::FrontendKind::ClusterIp => String::new(),
                    orlop_lb::FrontendKind::NodePort => " nodeport".to_owned(),
                    other => format!(" {other}"),
                };
                let taken = frontend.taken_by.map(|owner| format!(" taken by {owner}")).unwrap_or_default();
                let state = match frontend.state {
                    orlop_lb::FrontendState::Refuses => " refuses",
                    orlop_lb::FrontendState::Drops => " drops",
                    orlop_lb::FrontendState::Open | orlop_lb::FrontendState::Taken => "",
                };
                let mut more = String::new();
                let words = [(frontend.local, "local"), (frontend.limited, "limited"), (frontend.dsr, "dsr")];
                for (_, word) in words.into_iter().filter(|(given, _)| *given) {
                    more.push(' ');
                    more.push_str(word);
                }
                let active = frontend.active;
                lines.push(format!("    at {}{kind} active={active}{state}{more}{taken}", frontend.address));
            }
            for backend in port.backends {
                let pod = backend.pod.unwrap_or_default();
                lines.push(format!("    to {}:{} {} {pod}", backend.addr, backend.port, backend.status));
            }
        }
    }
    lines
}

fn host_port_lines(compiler: &Compiler) -> Vec<String> {
    let lines = describe_host_ports(compiler).into_iter().map(|view| {
        let taken = view.taken_by.map(|owner| format!(" taken by {owner}")).unwrap_or_default();
        let number = view.service_id.map(|id| format!(" as {id}")).unwrap_or_default();
        format!("{} at {} to {}{number}{taken}", view.pod, view.address, view.target)
    });
    lines.collect()
}
