//! Flags over OrlopConfiguration over KubeProxyConfiguration.

use super::*;
use crate::config::tests::{ORLOP, read};

const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// With this OrlopConfiguration, KubeProxyConfiguration and these flags.
fn config(orlop: &str, proxy: &str, args: &[&str]) -> Result<ServiceConfig> {
    let file = format!("{ORLOP}{orlop}---\n{PROXY}{proxy}");
    let args = [&["--manifests", "/m", "--config", "ROOT/c.yaml"], args].concat();
    read(&[("c.yaml", &file)], &args).map(|config| config.services)
}

#[track_caller]
fn check(orlop: &str, proxy: &str, args: &[&str], shown: impl Fn(&ServiceConfig) -> String, want: &str) {
    assert_eq!(shown(&config(orlop, proxy, args).unwrap()), want);
}

#[test]
fn defaults() {
    let services = config("", "", &[]).unwrap();
    assert_eq!(services, read(&[], &["--manifests", "/m"]).unwrap().services);
    assert_eq!((services.node_port_addresses, services.maglev), (NodePortAddresses::All, None));
    assert_eq!((services.masquerade, services.healthz), (true, None));
    assert_eq!(services.audit_interval, Some(AUDIT_INTERVAL));
}

#[test]
fn flags_win() {
    let node_ports = |config: &ServiceConfig| format!("{:?}", config.node_port_addresses);
    let (orlop, proxy) = ("services: {nodePortAddresses: [primary]}\n", "nodePortAddresses: [192.0.2.0/24]\n");
    check("", proxy, &[], node_ports, "Within([192.0.2.0/24])");
    check(orlop, proxy, &[], node_ports, "Primary");
    check(orlop, proxy, &["--node-port-addresses", "0.0.0.0/0"], node_ports, "Within([0.0.0.0/0])");
    check("", "mode: nftables\n", &[], node_ports, "Primary");
    let networks = |config: &ServiceConfig| format!("{} {:?}", config.masquerade, config.non_masquerade_cidrs);
    let orlop = "masquerade: false\nnonMasqueradeCIDRs: [10.0.0.0/8]\n";
    check(orlop, "clusterCIDR: 10.244.0.0/16\n", &[], networks, "false [10.0.0.0/8, 10.244.0.0/16]");
    let args = ["--non-masquerade-cidr", "172.16.0.0/12", "--non-masquerade-cidr=fd00::/8", "--masquerade=true"];
    check(orlop, "", &args, networks, "true [172.16.0.0/12, fd00::/8]");
    let balancing = |config: &ServiceConfig| format!("{:?} {:?}", config.maglev, config.node_port_mode);
    check("services: {loadBalancing: maglev, nodePortMode: dsr}\n", "", &[], balancing, "Some(1021) Dsr");
    let args = ["--load-balancing", "maglev", "--maglev-table-size", "509", "--node-port-mode", "snat"];
    check("", "", &args, balancing, "Some(509) Snat");
}

#[test]
fn the_health_check_is_there_in_a_cluster_or_when_it_was_said() {
    let healthz = |config: &ServiceConfig| config.healthz.map_or("none".to_owned(), |address| address.to_string());
    check("", "", &[], healthz, "none");
    check("kubeconfig: /k\n", "", &[], healthz, "0.0.0.0:10256");
    check("kubeconfig: /k\n", "healthzBindAddress: 127.0.0.1\n", &[], healthz, "127.0.0.1:10256");
    check("", "", &["--healthz-bind-address", "[::1]:9"], healthz, "[::1]:9");
    check("kubeconfig: /k\n", "", &["--healthz-bind-address", ""], healthz, "none");
}

#[test]
fn loopback_serves_node_ports_unless_it_must_not() {
    let loopback = |config: &ServiceConfig| config.serves_node_ports("127.0.0.1".parse().unwrap(), false).to_string();
    check("", "", &[], loopback, "true");
    check("", "iptables: {localhostNodePorts: false}\n", &[], loopback, "false");
    check("", "", &["--node-port-addresses=192.0.2.0/24"], loopback, "false");
    check("", "", &["--node-port-addresses=192.0.2.0/24,127.0.0.0/8"], loopback, "true");
}

#[test]
fn faults_name_flag_or_key_and_value() {
    #[track_caller]
    fn check(orlop: &str, args: &[&str], part: &str) {
        let error = format!("{:#}", config(orlop, "", args).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    check("", &["--node-port-addresses=10.0.0.0/8,x"], "--node-port-addresses 10.0.0.0/8,x: \"x\" must be a network");
    check(
        "",
        &["--maglev-table-size=1021"],
        "--maglev-table-size (services.maglevTableSize) is 1021 and for load balancing by maglev",
    );
    check("mapEntries: {FLOW: 7}\n", &[], "mapEntries FLOW: there is no such map");
    check("mapEntries: {NODE_PORTS: 7}\n", &[], "mapEntries NODE_PORTS: there is no such map, or its size is fixed");
    check("mapEntries: {FLOWS: 0}\n", &[], "mapEntries FLOWS: 0 must be greater than 0");
}
