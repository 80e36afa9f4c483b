use super::*;
use orlop_cni::{ClusterNode, TunnelDevice, Underlay};
use orlop_config::NodePortAddresses;
use std::sync::Arc;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn index(number: u32) -> Ifindex {
    Ifindex::new(number).unwrap()
}

fn link(number: u32, addresses: &[&str]) -> NodeLink {
    NodeLink {
        index: index(number),
        name: format!("eth{number}"),
        mtu: 1500,
        up: true,
        loopback: false,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn node(name: &str, addresses: &[&str], ranges: &[&str]) -> Arc<ClusterNode> {
    Arc::new(ClusterNode {
        name: name.into(),
        created: None,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_cidrs: ranges.iter().map(|text| text.parse().unwrap()).collect(),
    })
}

/// This node on two links, with a tunnel to another.
fn view() -> NodesView {
    NodesView {
        own: Some(node("n1", &["192.0.2.1"], &["10.244.1.0/24"])),
        peers: Some([node("n2", &["198.51.100.2"], &["10.244.2.0/24"])].into()),
        tunnels: vec![TunnelDevice {
            underlay: Underlay::V4,
            index: index(9),
            mtu: 1450,
            addresses: vec![ip("10.244.1.0")],
        }],
        uplinks: vec![
            link(2, &["192.0.2.7/24", "192.0.2.1/24", "fe80::1/64", "2001:db8::1/64"]),
            link(3, &["203.0.113.1/24"]),
            // A device without an Ethernet address.
            link(4, &["10.9.9.9/32"]),
        ],
    }
}

fn services() -> ServiceConfig {
    crate::config::tests::read(&[], &["--manifests", "/m"]).unwrap().services
}

fn surroundings(view: &NodesView, services: &ServiceConfig) -> Surroundings {
    let macs = [2, 3, 9].map(|number| (index(number), Mac([2, 0, 0, 0, 0, number as u8]))).into();
    Surroundings::with(view, &[ip("192.0.2.1")], services, &macs)
}

#[test]
fn devices_have_the_nodes_address_where_it_is() {
    let devices = surroundings(&view(), &services()).devices;
    let shown = |device: &NodeDevice| {
        let NodeDevice { snat_v4, snat_v6, is_tunnel, answers_neighbours, mtu, .. } = *device;
        (device.device.get(), snat_v4.map(IpAddr::V4), snat_v6.map(IpAddr::V6), (is_tunnel, answers_neighbours), mtu)
    };
    let wanted = [
        (2, Some(ip("192.0.2.1")), Some(ip("2001:db8::1")), (false, true), 1500),
        (3, Some(ip("203.0.113.1")), None, (false, true), 1500),
        (9, Some(ip("10.244.1.0")), None, (true, false), 1450),
    ];
    assert_eq!(devices.iter().map(shown).collect::<Vec<_>>(), wanted);
}

#[test]
fn addresses_serve_node_ports_as_configured() {
    let check = |addresses: NodePortAddresses, wanted: &[&str]| {
        let services = ServiceConfig { node_port_addresses: addresses, ..services() };
        let own = surroundings(&view(), &services).own;
        let serving: Vec<String> = own.iter().filter(|(_, serves)| *serves).map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(serving, wanted);
        assert!(own.contains(&(ip("10.244.1.0"), false)), "the tunnel's address is the node's");
    };
    let all = ["10.9.9.9", "127.0.0.1", "192.0.2.1", "192.0.2.7", "203.0.113.1", "::1", "2001:db8::1"];
    check(NodePortAddresses::All, &all);
    check(NodePortAddresses::Primary, &["192.0.2.1"]);
    check(NodePortAddresses::Within(vec!["203.0.113.0/24".parse().unwrap()]), &["203.0.113.1", "::1", "2001:db8::1"]);
}

#[test]
fn the_cluster_is_told_once_it_is_known() {
    let services = ServiceConfig { non_masquerade_cidrs: vec!["172.16.0.0/12".parse().unwrap()], ..services() };
    let cluster = surroundings(&view(), &services).cluster.unwrap();
    assert_eq!(cluster.peers, [ip("198.51.100.2")]);
    let networks: Vec<String> = cluster.non_masquerade.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.244.1.0/24", "10.244.2.0/24", "172.16.0.0/12", "224.0.0.0/4", "ff00::/8"]);
    assert_eq!(surroundings(&NodesView { peers: None, ..view() }, &services).cluster, None);
}

#[test]
fn an_address_that_is_nowhere_is_missing() {
    let view = NodesView { uplinks: vec![link(3, &["203.0.113.1/24"])], ..view() };
    let surroundings = surroundings(&view, &services());
    assert_eq!(surroundings.missing, [ip("192.0.2.1")].into());
    // Better a source that others route back than none.
    assert_eq!(surroundings.devices[0].snat_v4, Some("203.0.113.1".parse().unwrap()));
}
