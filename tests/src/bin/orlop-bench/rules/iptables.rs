//! What kube-proxy feeds `iptables-restore`.

use super::{ClusterNet, MASQUERADE_MARK, ServicePort, hash};
use std::fmt::Write;

/// With more endpoints than this the chains of Services and endpoints have no comments.
const COMMENTED_ENDPOINTS_MAX: usize = 1000;

/// Jumps from the built-in chains, in the order in which each is put before what is there:
/// table, built-in chain, matches, comment, own chain.
const JUMPS: [[&str; 5]; 14] = [
    ["filter", "INPUT", NEW, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES"],
    ["filter", "FORWARD", NEW, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES"],
    ["filter", "INPUT", "", "kubernetes health check service ports", "KUBE-NODEPORTS"],
    ["filter", "FORWARD", NEW, "kubernetes service portals", "KUBE-SERVICES"],
    ["filter", "OUTPUT", NEW, "kubernetes service portals", "KUBE-SERVICES"],
    ["filter", "FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD"],
    ["filter", "INPUT", NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"],
    ["filter", "OUTPUT", NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"],
    ["filter", "FORWARD", NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"],
    ["filter", "INPUT", "", "", "KUBE-FIREWALL"],
    ["filter", "OUTPUT", "", "", "KUBE-FIREWALL"],
    ["nat", "OUTPUT", "", "kubernetes service portals", "KUBE-SERVICES"],
    ["nat", "PREROUTING", "", "kubernetes service portals", "KUBE-SERVICES"],
    ["nat", "POSTROUTING", "", "kubernetes postrouting rules", "KUBE-POSTROUTING"],
];
const NEW: &str = "-m conntrack --ctstate NEW ";
const FILTER_CHAINS: [&str; 5] =
    ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"];
const NAT_CHAINS: [&str; 4] = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];

/// A full sync into empty tables, and the jumps, which kube-proxy makes one by one at its start.
///
/// Not for `--noflush`, which kube-proxy needs beside others' rules: with it iptables-nft-restore 1.8.9
/// takes a time that grows with the square of the chains (4,000 Services with two endpoints: 20 s).
pub fn restore(services: &[ServicePort], net: &ClusterNet) -> String {
    let mut rules = Rules::new(services);
    for service in services {
        rules.service(service, net);
    }
    rules.finish()
}

struct Rules {
    filter: String,
    nat_chains: String,
    nat: String,
    /// Whether the chains of Services and endpoints are commented.
    commented: bool,
}

impl Rules {
    fn new(services: &[ServicePort]) -> Self {
        let endpoints: usize = services.iter().map(|service| service.endpoints.len()).sum();
        let mut nat_chains = String::new();
        NAT_CHAINS.iter().for_each(|chain| chain_line(&mut nat_chains, chain));
        let mark = MASQUERADE_MARK;
        let nat = format!(
            "-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN\n\
             -A KUBE-POSTROUTING -j MARK --xor-mark {mark}\n\
             -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n\
             -A KUBE-MARK-MASQ -j MARK --or-mark {mark}\n"
        );
        let filter = "-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 \
                      ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
            .to_owned();
        Self { filter, nat_chains, nat, commented: endpoints <= COMMENTED_ENDPOINTS_MAX }
    }

    fn service(&mut self, service: &ServicePort, net: &ClusterNet) {
        let (name, ip, port) = (service.full_name(), service.cluster_ip, service.port);
        let suffix = hash(&format!("{name}tcp"), 16);
        if service.endpoints.is_empty() {
            let because = format!("-m comment --comment \"{name} has no endpoints\"");
            let _ = writeln!(self.filter, "-A KUBE-SERVICES {because} -m tcp -p tcp -d {ip} --dport {port} -j REJECT");
            if let Some(port) = service.node_port {
                let local = "-m addrtype --dst-type LOCAL -m tcp -p tcp";
                let _ = writeln!(self.filter, "-A KUBE-EXTERNAL-SERVICES {because} {local} --dport {port} -j REJECT");
            }
            return;
        }
        let matches = format!("-m comment --comment \"{name} cluster IP\" -m tcp -p tcp -d {ip} --dport {port}");
        let _ = writeln!(self.nat, "-A KUBE-SERVICES {matches} -j KUBE-SVC-{suffix}");
        if let Some(port) = service.node_port {
            let comment = format!("-m comment --comment {name}");
            let _ = writeln!(self.nat, "-A KUBE-NODEPORTS {comment} -m tcp -p tcp --dport {port} -j KUBE-EXT-{suffix}");
        }
        let cidr = &net.pod_cidr;
        let _ = writeln!(self.nat, "-A KUBE-SVC-{suffix} {matches} ! -s {cidr} -j KUBE-MARK-MASQ");
        if service.node_port.is_some() {
            chain_line(&mut self.nat_chains, &format!("KUBE-EXT-{suffix}"));
            let comment = format!("-m comment --comment \"masquerade traffic for {name} external destinations\"");
            let _ = writeln!(self.nat, "-A KUBE-EXT-{suffix} {comment} -j KUBE-MARK-MASQ");
            let _ = writeln!(self.nat, "-A KUBE-EXT-{suffix} -j KUBE-SVC-{suffix}");
        }
        self.endpoints(service, &name, &suffix);
    }

    fn endpoints(&mut self, service: &ServicePort, name: &str, suffix: &str) {
        let count = service.endpoints.len();
        let comment =
            |text: String| if self.commented { format!("-m comment --comment {text} ") } else { String::new() };
        let chain = |endpoint| format!("KUBE-SEP-{}", hash(&format!("{name}tcp{endpoint}"), 16));
        chain_line(&mut self.nat_chains, &format!("KUBE-SVC-{suffix}"));
        for (at, endpoint) in service.endpoints.iter().enumerate() {
            let comment = comment(format!("\"{name} -> {endpoint}\""));
            // The last rule is met by whatever the others did not take.
            let chance = match count - at {
                1 => String::new(),
                left => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
            };
            let _ = writeln!(self.nat, "-A KUBE-SVC-{suffix} {comment}{chance}-j {}", chain(endpoint));
        }
        for endpoint in &service.endpoints {
            let (chain, comment) = (chain(endpoint), comment(name.to_owned()));
            chain_line(&mut self.nat_chains, &chain);
            let _ = writeln!(self.nat, "-A {chain} {comment}-s {} -j KUBE-MARK-MASQ", endpoint.ip());
            let _ = writeln!(self.nat, "-A {chain} {comment}-m tcp -p tcp -j DNAT --to-destination {endpoint}");
        }
    }

    fn finish(mut self) -> String {
        self.nat.push_str(
            "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in \
             this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n",
        );
        let mark = MASQUERADE_MARK;
        let _ = write!(
            self.filter,
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
             -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT\n\
             -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack \
             --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
        );
        let mut filter_chains = String::new();
        FILTER_CHAINS.iter().chain(&["KUBE-FIREWALL"]).for_each(|chain| chain_line(&mut filter_chains, chain));
        let (filter_jumps, nat_jumps) = (jumps("filter"), jumps("nat"));
        let filter = format!("*filter\n{filter_chains}{filter_jumps}{}COMMIT\n", self.filter);
        format!("{filter}*nat\n{}{nat_jumps}{}COMMIT\n", self.nat_chains, self.nat)
    }
}

fn jumps(table: &str) -> String {
    let mut text = String::new();
    for [_, built_in, matches, comment, chain] in JUMPS.iter().filter(|jump| jump[0] == table) {
        let comment = if comment.is_empty() { String::new() } else { format!("-m comment --comment \"{comment}\" ") };
        let _ = writeln!(text, "-I {built_in} {matches}{comment}-j {chain}");
    }
    text
}

fn chain_line(text: &mut String, chain: &str) {
    let _ = writeln!(text, ":{chain} - [0:0]");
}
