//! `status.addresses`.

use crate::{Cloud, NodeFacts};
use k8s_openapi::api::core::v1::NodeAddress;
use std::net::IpAddr;

/// Hint for an external cloud provider: the addresses of `--node-ip`.
pub(crate) const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";

/// The addresses to report: InternalIP, primary family first, then Hostname. With an
/// external cloud provider, what is there is the provider's and stays. It stays also while
/// the machine has no address: losing its route for a moment must not change who the node is.
pub(crate) fn addresses(existing: &[NodeAddress], facts: &NodeFacts) -> Vec<NodeAddress> {
    let external = facts.settings.cloud == Cloud::External;
    if !existing.is_empty() && (external || facts.seen.addresses.is_empty()) {
        return existing.to_vec();
    }
    let ips = if external && !facts.settings.node_ip_given { Vec::new() } else { one_a_family(&facts.seen.addresses) };
    let internal = ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([address("Hostname", facts.settings.hostname.clone())]).collect()
}

/// The value of the annotation [`PROVIDED_IP`], if it belongs on the Node.
pub(crate) fn provided_ip(facts: &NodeFacts) -> Option<String> {
    let wanted = facts.settings.cloud == Cloud::External && facts.settings.node_ip_given;
    let ips: Vec<String> = one_a_family(&facts.seen.addresses).iter().map(ToString::to_string).collect();
    (wanted && !ips.is_empty()).then(|| ips.join(","))
}

fn one_a_family(ips: &[IpAddr]) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for ip in ips {
        if chosen.iter().all(|other| other.is_ipv4() != ip.is_ipv4()) {
            chosen.push(*ip);
        }
    }
    chosen
}

fn address(kind: &str, address: String) -> NodeAddress {
    NodeAddress { type_: kind.to_owned(), address }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seen, Settings};

    #[track_caller]
    fn check(cloud: Cloud, given: bool, ips: &[&str], existing: &[(&str, &str)], want: &str) {
        let settings = Settings { hostname: "n1".into(), cloud, node_ip_given: given, ..Settings::default() };
        let seen = Seen { addresses: ips.iter().map(|ip| ip.parse().unwrap()).collect(), ..Seen::default() };
        let facts = NodeFacts { settings, seen, ..NodeFacts::default() };
        let existing: Vec<_> = existing.iter().map(|(kind, text)| address(kind, (*text).to_owned())).collect();
        let got: Vec<_> =
            addresses(&existing, &facts).into_iter().map(|a| format!("{}={}", a.type_, a.address)).collect();
        let got = format!("{} {}", got.join(","), provided_ip(&facts).unwrap_or_default());
        assert_eq!(got.trim(), want);
    }

    #[test]
    fn whose_addresses() {
        let (v4, v6) = ("192.0.2.1", "2001:db8::1");
        check(Cloud::None, false, &[v4], &[], "InternalIP=192.0.2.1,Hostname=n1");
        check(Cloud::None, false, &[v6, v4], &[], "InternalIP=2001:db8::1,InternalIP=192.0.2.1,Hostname=n1");
        check(Cloud::None, false, &[v4, "192.0.2.2"], &[("InternalIP", "9.9.9.9")], "InternalIP=192.0.2.1,Hostname=n1");
        check(Cloud::None, false, &[], &[("InternalIP", "9.9.9.9")], "InternalIP=9.9.9.9");
        check(Cloud::None, false, &[], &[], "Hostname=n1");
        check(Cloud::External, false, &[v4], &[], "Hostname=n1");
        check(
            Cloud::External,
            true,
            &[v4, v6],
            &[],
            "InternalIP=192.0.2.1,InternalIP=2001:db8::1,Hostname=n1 192.0.2.1,2001:db8::1",
        );
        check(Cloud::External, true, &[v4], &[("ExternalIP", "9.9.9.9")], "ExternalIP=9.9.9.9 192.0.2.1");
    }
}
