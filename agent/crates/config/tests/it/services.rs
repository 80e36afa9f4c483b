//! What files and flags say of Services.

use orlop_config::{
    Grade, HealthzAddress, Inputs, Interval, Loaded, MaglevTableSize, NodePortAddresses, NodePortMode, SnatPorts,
    Source, load,
};
use std::str::FromStr;

const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const ORLOP: &str = "apiVersion: orlop.dev/v1alpha1\nkind: OrlopConfiguration\n";

fn read(text: &str) -> Result<Loaded, String> {
    let source = Source { path: "c.yaml".into(), text: text.to_owned() };
    load(&Inputs { files: vec![source], ..Inputs::default() }).map_err(|error| error.to_string())
}

/// What serves node ports, of a few addresses; the first is the Node's.
#[track_caller]
fn check_node_ports(proxy: &str, want: &str) {
    let addresses = read(&format!("{PROXY}{proxy}")).unwrap().proxy.node_ports();
    let all = ["192.0.2.1", "198.51.100.1", "127.0.0.1", "2001:db8::1"];
    let served = all.iter().filter(|text| addresses.serve(text.parse().unwrap(), **text == all[0]));
    assert_eq!(served.copied().collect::<Vec<_>>().join(" "), want);
}

#[test]
fn node_ports_answer_where_kube_proxy_has_them() {
    check_node_ports("", "192.0.2.1 198.51.100.1 127.0.0.1 2001:db8::1");
    check_node_ports("mode: iptables\n", "192.0.2.1 198.51.100.1 127.0.0.1 2001:db8::1");
    check_node_ports("mode: nftables\n", "192.0.2.1");
    check_node_ports(
        "mode: nftables\nnodePortAddresses: [0.0.0.0/0]\n",
        "192.0.2.1 198.51.100.1 127.0.0.1 2001:db8::1",
    );
    check_node_ports("nodePortAddresses: [primary]\n", "192.0.2.1");
    // A family without a network of its own: all of its addresses.
    check_node_ports("nodePortAddresses: [198.51.100.0/24]\n", "198.51.100.1 2001:db8::1");
    check_node_ports("nodePortAddresses: [198.51.100.0/24, 'fd00::/8']\n", "198.51.100.1");
    check_node_ports("nodePortAddresses: ['2001:db8::/32']\n", "192.0.2.1 198.51.100.1 127.0.0.1 2001:db8::1");
}

#[test]
fn all_of_a_family() {
    let all = |list: &[&str]| {
        let said = NodePortAddresses::parse(list).unwrap();
        (said.is_all(true), said.is_all(false))
    };
    assert_eq!(all(&[]), (true, true));
    assert_eq!(all(&["primary"]), (false, false));
    assert_eq!(all(&["192.0.2.0/24"]), (false, true));
    assert_eq!(all(&["192.0.2.0/24", "::/0"]), (false, true));
    assert_eq!(all(&["0.0.0.0/0", "fd00::/8"]), (true, false));
}

#[test]
fn what_of_kube_proxy_is_acted_on() {
    let loaded = read(&format!(
        "{PROXY}bindAddress: '::'\nclusterCIDR: 10.0.0.0/8\nnodePortAddresses: [primary]\nmode: nftables\n\
         iptables: {{localhostNodePorts: false, masqueradeAll: true}}\nmetricsBindAddress: 0.0.0.0:10249\n\
         conntrack: {{tcpEstablishedTimeout: 1h, udpTimeout: 10s, maxPerCore: 0}}\nhostnameOverride: n1\n"
    ))
    .unwrap();
    assert_eq!(loaded.proxy.healthz_bind_address.to_string(), "[::]:10256");
    assert!(!loaded.proxy.iptables.localhost_node_ports);
    let told = loaded.warnings.iter().map(|w| (w.grade, w.field.trim_start_matches("KubeProxyConfiguration ")));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (Grade::Note, "hostnameOverride"),
            (Grade::Note, "bindAddress"),
            (Grade::Warning, "metricsBindAddress"),
            (Grade::Note, "mode"),
            (Grade::Warning, "iptables.masqueradeAll"),
            (Grade::Note, "conntrack.maxPerCore"),
            (Grade::Warning, "conntrack.tcpEstablishedTimeout"),
            (Grade::Warning, "conntrack.udpTimeout"),
        ]
    );
}

#[test]
fn what_only_orlop_has() {
    let loaded = read(&format!(
        "{ORLOP}masquerade: false\nnonMasqueradeCIDRs: [10.0.0.0/8]\nmapEntries: {{FLOWS: 1000}}\nservices:\n  \
         nodePortAddresses: [primary]\n  nodePortMode: dsr\n  loadBalancing: maglev\n  maglevTableSize: 509\n  \
         snatPorts: 40000-40999\n  healthzBindAddress: ''\n  auditInterval: 5m\n"
    ));
    let orlop = loaded.unwrap().orlop.unwrap();
    assert_eq!(
        (orlop.masquerade, orlop.non_masquerade_cidrs.len(), orlop.map_entries["FLOWS"]),
        (Some(false), 1, 1000)
    );
    let services = orlop.services;
    assert_eq!(services.node_port_addresses, Some(NodePortAddresses::Primary));
    assert_eq!(services.node_port_mode, Some(NodePortMode::Dsr));
    assert_eq!(services.maglev_table_size.map(MaglevTableSize::get), Some(509));
    assert_eq!(services.snat_ports, Some(SnatPorts { first: 40_000, last: 40_999 }));
    assert_eq!(services.healthz_bind_address, Some(HealthzAddress(None)));
    assert_eq!(services.audit_interval.unwrap().0.as_secs(), 300);
}

#[track_caller]
fn check_wrong(text: &str, wanted: &str) {
    let error = read(text).unwrap_err();
    assert_eq!(error, format!("configuration c.yaml: {wanted}"));
}

#[test]
fn faults_name_file_and_key() {
    let services = |text: &str| format!("{ORLOP}services: {{{text}}}\n");
    let of_services = |key: &str, problem: &str| format!("OrlopConfiguration: services.{key}: {problem}");
    for (text, key, problem) in [
        ("maglevTableSize: 1000", "maglevTableSize", "1000 must be a prime; the next is 1009"),
        ("maglevTableSize: 7", "maglevTableSize", "7 must be a prime from 251 to 131071"),
        ("loadBalancing: least", "loadBalancing", "\"least\" must be random or maglev"),
        ("nodePortMode: x", "nodePortMode", "\"x\" must be snat or dsr"),
        ("snatPorts: 1-2", "snatPorts", "\"1-2\" must be FIRST-LAST, such as 61000-65535, from 1024 on"),
        ("auditInterval: 1ms", "auditInterval", "\"1ms\" must be 0 (never) or at least 1s"),
        ("nodePortAddresses: [primary, 10.0.0.0/8]", "nodePortAddresses", "cannot have both \"primary\" and networks"),
        ("nodePortAddresses: [x]", "nodePortAddresses", "\"x\" must be a network such as 10.244.0.0/16"),
    ] {
        check_wrong(&services(text), &of_services(key, problem));
    }
    check_wrong(
        &format!("{PROXY}mode: userspace\n"),
        "KubeProxyConfiguration: mode: unknown variant `userspace`, expected one of `iptables`, `ipvs`, `nftables`",
    );
}

#[test]
fn values_of_flags() {
    #[track_caller]
    fn good<T: FromStr<Err = orlop_config::ValueError> + PartialEq + std::fmt::Debug>(text: &str, want: T) {
        assert_eq!(text.parse::<T>(), Ok(want), "{text}");
    }
    #[track_caller]
    fn bad<T: FromStr + std::fmt::Debug>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text}");
        }
    }
    good("61000-65535", SnatPorts::default());
    good("5000-5000", SnatPorts { first: 5000, last: 5000 });
    good("1021", MaglevTableSize::default());
    good("", HealthzAddress(None));
    good("0.0.0.0", HealthzAddress(Some("0.0.0.0:10256".parse().unwrap())));
    good("[::1]:9", HealthzAddress(Some("[::1]:9".parse().unwrap())));
    good("0", Interval(jiff::SignedDuration::ZERO));
    good("90s", Interval(jiff::SignedDuration::from_secs(90)));
    bad::<SnatPorts>(&["", "61000", "65535-61000", "80-90", "61000-70000", "a-b"]);
    bad::<MaglevTableSize>(&["", "0", "1022", "-3", "131072", "4294967291"]);
    bad::<HealthzAddress>(&["10256", "node:1", ":10256"]);
    bad::<Interval>(&["", "5", "-1s", "10ms"]);
}
