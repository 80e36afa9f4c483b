//! What kube-proxy feeds `nft -f -`.

use super::{ClusterNet, MASQUERADE_MARK, ServicePort, hash};
use std::fmt::Write;

/// Base chains: name, type, hook, priority.
const BASE_CHAINS: [[&str; 4]; 8] = [
    ["filter-prerouting-pre-dnat", "filter", "prerouting", "-110"],
    ["filter-output-pre-dnat", "filter", "output", "-110"],
    ["filter-input", "filter", "input", "0"],
    ["filter-forward", "filter", "forward", "0"],
    ["filter-output", "filter", "output", "0"],
    ["nat-prerouting", "nat", "prerouting", "-100"],
    ["nat-output", "nat", "output", "-100"],
    ["nat-postrouting", "nat", "postrouting", "100"],
];

/// Jumps from base chains: own chain, base chain, matches.
const JUMPS: [[&str; 3]; 11] = [
    ["nodeport-endpoints-check", "filter-input", "ct state new "],
    ["service-endpoints-check", "filter-input", "ct state new "],
    ["service-endpoints-check", "filter-forward", "ct state new "],
    ["service-endpoints-check", "filter-output", "ct state new "],
    ["firewall-check", "filter-prerouting-pre-dnat", "ct state new "],
    ["firewall-check", "filter-output-pre-dnat", "ct state new "],
    ["services", "nat-output", ""],
    ["services", "nat-prerouting", ""],
    ["masquerading", "nat-postrouting", ""],
    ["cluster-ips-check", "filter-forward", "ct state new "],
    ["cluster-ips-check", "filter-output", "ct state new "],
];

/// Sets and verdict maps: kind, name, definition.
const ELEMENTS: [[&str; 3]; 8] = [
    ["set", "hairpin-connections", "type ipv4_addr . ipv4_addr . inet_proto . inet_service ;"],
    ["set", "cluster-ips", "type ipv4_addr ; comment \"Active ClusterIPs\" ;"],
    ["set", "nodeport-ips", "type ipv4_addr ; comment \"IPs that accept NodePort traffic\" ;"],
    ["map", "no-endpoint-services", "type ipv4_addr . inet_proto . inet_service : verdict ;"],
    ["map", "no-endpoint-nodeports", "type inet_proto . inet_service : verdict ;"],
    ["map", "firewall-ips", "type ipv4_addr . inet_proto . inet_service : verdict ;"],
    ["map", "service-ips", "type ipv4_addr . inet_proto . inet_service : verdict ;"],
    ["map", "service-nodeports", "type inet_proto . inet_service : verdict ;"],
];

/// A full sync: one transaction.
pub fn transaction(services: &[ServicePort], net: &ClusterNet) -> String {
    let mut transaction = Transaction(String::new());
    transaction.set_up(net);
    services.iter().for_each(|service| transaction.service(service));
    transaction.0
}

struct Transaction(String);

impl Transaction {
    /// One line; `rest` begins after the table's name.
    fn add(&mut self, kind: &str, rest: &str) {
        let _ = writeln!(self.0, "add {kind} ip kube-proxy {rest}");
    }

    fn flushed_chain(&mut self, name: &str) {
        self.add("chain", name);
        let _ = writeln!(self.0, "flush chain ip kube-proxy {name}");
    }

    fn set_up(&mut self, net: &ClusterNet) {
        self.0.push_str("add table ip kube-proxy { comment \"rules for kube-proxy\" ; }\n");
        for [name, ..] in BASE_CHAINS {
            self.add("chain", name);
            let _ = writeln!(self.0, "delete chain ip kube-proxy {name}");
        }
        for [name, kind, hook, priority] in BASE_CHAINS {
            self.add("chain", &format!("{name} {{ type {kind} hook {hook} priority {priority} ; }}"));
        }
        let mut known = Vec::new();
        for [chain, base, matches] in JUMPS {
            if !known.contains(&chain) {
                known.push(chain);
                self.flushed_chain(chain);
            }
            self.add("rule", &format!("{base} {matches}jump {chain}"));
        }
        for [kind, name, definition] in ELEMENTS {
            self.add(kind, &format!("{name} {{ {definition} }}"));
        }
        self.add("element", &format!("nodeport-ips {{ {} }}", net.node_ip));
        self.flushed_chain("reject-chain");
        let (mark, pods, services) = (MASQUERADE_MARK, &net.pod_cidr, &net.service_cidr);
        for rule in [
            &format!("masquerading mark and {mark} != 0 mark set mark xor {mark} masquerade fully-random"),
            "masquerading ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections \
             masquerade fully-random",
            "cluster-ips-check ip daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"",
            &format!(
                "cluster-ips-check ip daddr {{ {services} }} drop comment \"Drop traffic to unallocated ClusterIPs\""
            ),
            "reject-chain reject",
            "service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services",
            "nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports",
            "firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips",
            &format!(
                "services ip daddr @cluster-ips ip saddr != {pods} mark set mark or {mark} \
                 comment \"masquerade clusterIP traffic from outside cluster\""
            ),
            "services ip daddr . meta l4proto . th dport vmap @service-ips",
            "services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
        ] {
            self.add("rule", rule);
        }
    }

    fn service(&mut self, service: &ServicePort) {
        let plain = format!("{}/{}/tcp/{}", service.namespace, service.name, service.port_name);
        let base = format!("{}-{plain}", hash(&plain, 8));
        let (ip, port) = (service.cluster_ip, service.port);
        for endpoint in &service.endpoints {
            let (ip, port) = (endpoint.ip(), endpoint.port());
            self.add("element", &format!("hairpin-connections {{ {ip} . {ip} . tcp . {port} }}"));
        }
        self.add("element", &format!("cluster-ips {{ {ip} }}"));
        if service.endpoints.is_empty() {
            let (name, goto) = (service.full_name(), "goto reject-chain");
            self.add("element", &format!("no-endpoint-services {{ {ip} . tcp . {port} comment \"{name}\" : {goto} }}"));
            if let Some(port) = service.node_port {
                let element = format!("no-endpoint-nodeports {{ tcp . {port} comment \"{name}\" : {goto} }}");
                self.add("element", &element);
            }
            return;
        }
        self.flushed_chain(&format!("service-{base}"));
        self.add("element", &format!("service-ips {{ {ip} . tcp . {port} : goto service-{base} }}"));
        if let Some(port) = service.node_port {
            self.flushed_chain(&format!("external-{base}"));
            self.add("element", &format!("service-nodeports {{ tcp . {port} : goto external-{base} }}"));
            let mark = format!("external-{base} mark set mark or {MASQUERADE_MARK} comment \"masquerade\"");
            self.add("rule", &mark);
            self.add("rule", &format!("external-{base} goto service-{base}"));
        }
        let element = |(at, endpoint): (usize, &std::net::SocketAddrV4)| {
            format!("{at} : {} . {}", endpoint.ip(), endpoint.port())
        };
        let elements: Vec<String> = service.endpoints.iter().enumerate().map(element).collect();
        let (count, elements) = (elements.len(), elements.join(" , "));
        let choice = format!("numgen random mod {count} map {{ {elements} }}");
        self.add("rule", &format!("service-{base} meta l4proto tcp dnat ip addr . port to {choice}"));
    }
}
