//! Routes to other nodes' pods as a table: what the Node objects say, what should be there, what is to be done.

use ipnet::IpNet;
use jiff::Timestamp;
use orlop_cni::{
    ClusterNode, NodeLink, PeerAction, PeerMode, PeerProblem, PeerSettings, PeersObserved, ROUTE_PROTOCOL, TunnelSeen,
    Underlay, WantedPeers, Way, plan_peers, vtep_mac, wanted_peers,
};
use orlop_kernel::{Mac, Route, RouteEntry, SeenRoute};
use orlop_model::Ifindex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &str) -> Vec<IpNet> {
    texts.split_whitespace().map(net).collect()
}

/// Made in the second `age` of 2026.
fn node(name: &str, age: i64, addresses: &str, pod_cidrs: &str) -> Arc<ClusterNode> {
    Arc::new(ClusterNode {
        name: name.into(),
        created: Some(Timestamp::from_second(1_767_225_600 + age).unwrap()),
        addresses: addresses.split_whitespace().map(ip).collect(),
        pod_cidrs: nets(pod_cidrs),
    })
}

fn link(index: u32, name: &str, mtu: u32, addresses: &str) -> NodeLink {
    let index = Ifindex::new(index).unwrap();
    NodeLink { index, name: name.into(), mtu, up: true, loopback: name == "lo", addresses: nets(addresses) }
}

/// A node, its links and the others.
#[derive(Clone)]
struct Case {
    own: Arc<ClusterNode>,
    links: Vec<NodeLink>,
    peers: Vec<Arc<ClusterNode>>,
    settings: PeerSettings,
}

/// `n1` at 192.0.2.1/24 and 2001:db8::1/64 on eth0 (index 2).
fn case(peers: &[Arc<ClusterNode>]) -> Case {
    Case {
        own: node("n1", 0, "192.0.2.1 2001:db8::1", "10.1.1.0/24 fd00:1::/64"),
        links: vec![link(1, "lo", 65536, "127.0.0.1/8 ::1/128"), link(2, "eth0", 1500, "192.0.2.1/24 2001:db8::1/64")],
        peers: peers.to_vec(),
        settings: PeerSettings::default(),
    }
}

impl Case {
    fn mode(mut self, mode: PeerMode) -> Self {
        self.settings.mode = mode;
        self
    }

    fn own(mut self, addresses: &str, pod_cidrs: &str) -> Self {
        self.own = node("n1", 0, addresses, pod_cidrs);
        self
    }

    fn links(mut self, links: Vec<NodeLink>) -> Self {
        self.links = links;
        self
    }

    fn wanted(&self) -> WantedPeers {
        wanted_peers(&self.own, &self.links, &self.peers, self.settings)
    }
}

fn way(way: Way) -> String {
    match way {
        Way::Direct(link) => link.to_string(),
        Way::Tunnel(underlay) => underlay.device().to_owned(),
    }
}

/// The wanted state in lines: tunnels, routes, problems.
fn lines(wanted: &WantedPeers) -> Vec<String> {
    let mut lines = Vec::new();
    for (underlay, tunnel) in &wanted.tunnels {
        let addresses: Vec<String> = tunnel.addresses.iter().map(ToString::to_string).collect();
        let (name, addresses) = (underlay.device(), addresses.join(","));
        lines.push(format!("{name} mtu {} local {} own {addresses}", tunnel.mtu, tunnel.local));
        for (mac, (remote, peer)) in &tunnel.forwarding {
            assert_eq!(*mac, vtep_mac(*remote));
            let hops = tunnel.neighbours.iter().filter(|(_, (of, _))| of == mac);
            let hops: Vec<String> = hops.map(|(ip, _)| ip.to_string()).collect();
            lines.push(format!("{name} {peer} at {remote}: {}", hops.join(",")));
        }
    }
    for (cidr, route) in &wanted.routes {
        let source = route.source.map_or(String::new(), |ip| format!(" src {ip}"));
        let mtu = route.mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"));
        lines.push(format!("{cidr} via {} dev {}{source}{mtu} ({})", route.gateway, way(route.way), route.peer));
    }
    lines.extend(wanted.problems.iter().map(|problem| format!("{}: {problem}", problem.reason())));
    lines
}

#[track_caller]
fn check(case: &Case, want: &[&str]) {
    assert_eq!(lines(&case.wanted()), want);
}

#[test]
fn on_one_link_the_way_is_direct() {
    check(&case(&[]), &[]);
    check(
        &case(&[
            node("n1", 0, "192.0.2.1", "10.1.1.0/24"),
            node("n2", 1, "192.0.2.2 2001:db8::2", "10.1.2.0/24 fd00:2::/64"),
        ]),
        &[
            "10.1.2.0/24 via 192.0.2.2 dev if2 src 192.0.2.1 (n2)",
            "fd00:2::/64 via 2001:db8::2 dev if2 src 2001:db8::1 (n2)",
        ],
    );
    // The second of its addresses is on the link; the link with the longer prefix is taken.
    let links = vec![link(2, "eth0", 1500, "192.0.2.1/16"), link(3, "eth1", 1500, "192.0.2.129/25")];
    check(
        &case(&[node("n2", 1, "203.0.113.9 192.0.2.200", "10.1.2.0/24")]).links(links),
        &["10.1.2.0/24 via 192.0.2.200 dev if3 src 192.0.2.1 (n2)"],
    );
    // Of two links in one network the one with the address that others know.
    let links = vec![link(2, "eth0", 1500, "192.0.2.1/24"), link(3, "eth1", 1500, "192.0.2.99/24")];
    check(
        &case(&[node("n2", 1, "192.0.2.2", "10.1.2.0/24")]).links(links),
        &["10.1.2.0/24 via 192.0.2.2 dev if2 src 192.0.2.1 (n2)"],
    );
    // One without a range is nobody's route.
    check(&case(&[node("n2", 1, "192.0.2.2", "")]), &[]);
}

#[test]
fn elsewhere_the_way_is_a_tunnel() {
    check(
        &case(&[node("n2", 1, "198.51.100.2", "10.1.2.0/24 fd00:2::/64"), node("n3", 2, "192.0.2.3", "10.1.3.0/24")]),
        &[
            "orlop-vxlan mtu 1450 local 192.0.2.1 own 10.1.1.0,fd00:1::",
            "orlop-vxlan n2 at 198.51.100.2: 10.1.2.0,fe80::f03d:92ff:fe27:f4d8",
            "10.1.2.0/24 via 10.1.2.0 dev orlop-vxlan src 10.1.1.0 mtu 1450 (n2)",
            "10.1.3.0/24 via 192.0.2.3 dev if2 src 192.0.2.1 (n3)",
            "fd00:2::/64 via fe80::f03d:92ff:fe27:f4d8 dev orlop-vxlan src fd00:1:: mtu 1450 (n2)",
        ],
    );
    // Dual stack, but only IPv6 is on the link: each family goes its own way.
    check(
        &case(&[node("n2", 1, "198.51.100.2 2001:db8::2", "10.1.2.0/24 fd00:2::/64")]),
        &[
            "orlop-vxlan mtu 1450 local 192.0.2.1 own 10.1.1.0,fd00:1::",
            "orlop-vxlan n2 at 198.51.100.2: 10.1.2.0",
            "10.1.2.0/24 via 10.1.2.0 dev orlop-vxlan src 10.1.1.0 mtu 1450 (n2)",
            "fd00:2::/64 via 2001:db8::2 dev if2 src 2001:db8::1 (n2)",
        ],
    );
    // Our address is not on a link (the cloud translates it), or on the loopback: the smallest link decides the MTU.
    let links = vec![
        link(1, "lo", 65536, "127.0.0.1/8 192.0.2.1/32"),
        link(2, "eth0", 9000, "10.9.0.1/24"),
        link(3, "eth1", 1400, "10.9.1.1/24"),
    ];
    check(
        &case(&[node("n2", 1, "198.51.100.2", "10.1.2.0/24")]).links(links),
        &[
            "orlop-vxlan mtu 1350 local 192.0.2.1 own 10.1.1.0,fd00:1::",
            "orlop-vxlan n2 at 198.51.100.2: 10.1.2.0",
            "10.1.2.0/24 via 10.1.2.0 dev orlop-vxlan src 10.1.1.0 mtu 1350 (n2)",
        ],
    );
    check(
        &case(&[node("n2", 1, "198.51.100.2", "10.1.2.0/24")]).own("203.0.113.1", "10.1.1.0/24"),
        &[
            "orlop-vxlan mtu 1450 local 0.0.0.0 own 10.1.1.0",
            "orlop-vxlan n2 at 198.51.100.2: 10.1.2.0",
            "10.1.2.0/24 via 10.1.2.0 dev orlop-vxlan src 10.1.1.0 mtu 1450 (n2)",
        ],
    );
}

#[test]
fn an_underlay_of_ipv6_alone() {
    let links = vec![link(2, "eth0", 1500, "2001:db8::1/64")];
    let peers =
        [node("n2", 1, "2001:db8::2", "10.1.2.0/24 fd00:2::/64"), node("n3", 2, "2001:db8:5::3", "fd00:3::/64")];
    let six = case(&peers).own("2001:db8::1", "10.1.1.0/24 fd00:1::/64").links(links);
    check(
        &six,
        &[
            "orlop-vxlan6 mtu 1430 local 2001:db8::1 own 10.1.1.0,fd00:1::",
            "orlop-vxlan6 n2 at 2001:db8::2: 10.1.2.0",
            "orlop-vxlan6 n3 at 2001:db8:5::3: fe80::f8ef:f1ff:fe61:2bd5",
            "10.1.2.0/24 via 10.1.2.0 dev orlop-vxlan6 src 10.1.1.0 mtu 1430 (n2)",
            "fd00:2::/64 via 2001:db8::2 dev if2 src 2001:db8::1 (n2)",
            "fd00:3::/64 via fe80::f8ef:f1ff:fe61:2bd5 dev orlop-vxlan6 src fd00:1:: mtu 1430 (n3)",
        ],
    );
    // A pair without a common family has no way, and is told of.
    check(
        &case(&[node("n2", 1, "2001:db8:5::2", "fd00:2::/64")]).own("192.0.2.1", "10.1.1.0/24"),
        &[
            "NodeUnreachable: pods of node n2 (fd00:2::/64) are not reached from here: none of its InternalIPs is on a link of \
           this node or of a family that both nodes have",
        ],
    );
}

#[test]
fn the_mode_decides() {
    let near_and_far = case(&[node("n2", 1, "192.0.2.2", "10.1.2.0/24"), node("n3", 1, "198.51.100.3", "10.1.3.0/24")]);
    check(&near_and_far.clone().mode(PeerMode::Direct), &["10.1.2.0/24 via 192.0.2.2 dev if2 src 192.0.2.1 (n2)"]);
    check(
        &near_and_far.clone().mode(PeerMode::Vxlan),
        &[
            "orlop-vxlan mtu 1450 local 192.0.2.1 own 10.1.1.0,fd00:1::",
            "orlop-vxlan n2 at 192.0.2.2: 10.1.2.0",
            "orlop-vxlan n3 at 198.51.100.3: 10.1.3.0",
            "10.1.2.0/24 via 10.1.2.0 dev orlop-vxlan src 10.1.1.0 mtu 1450 (n2)",
            "10.1.3.0/24 via 10.1.3.0 dev orlop-vxlan src 10.1.1.0 mtu 1450 (n3)",
        ],
    );
    check(&near_and_far.mode(PeerMode::None), &[]);
}

#[test]
fn a_node_without_a_range_reaches_the_others() {
    check(
        &case(&[node("n2", 1, "192.0.2.2", "10.1.2.0/24"), node("n3", 1, "198.51.100.3", "10.1.3.0/24")])
            .own("192.0.2.1", ""),
        &[
            "orlop-vxlan mtu 1450 local 192.0.2.1 own ",
            "orlop-vxlan n3 at 198.51.100.3: 10.1.3.0",
            "10.1.2.0/24 via 192.0.2.2 dev if2 src 192.0.2.1 (n2)",
            "10.1.3.0/24 via 10.1.3.0 dev orlop-vxlan src 192.0.2.1 mtu 1450 (n3)",
        ],
    );
}

#[test]
fn two_claim_one_range() {
    let overlap = |who: &str, what: &str, owner: &str, taken: &str| {
        format!(
            "PodCIDROverlap: podCIDR {what} of node {who} overlaps {taken} of the older node {owner}: pods of {who} are \
             not reached from here; delete the Node {who} and let it join again"
        )
    };
    // The older has it whatever the order; its own is nobody else's, however old.
    check(
        &case(&[
            node("n2", 9, "192.0.2.2", "10.1.2.0/24"),
            node("n3", 5, "192.0.2.3", "10.1.0.0/22 10.1.2.0/25"),
            node("n4", 4, "192.0.2.4", "10.1.2.128/25"),
            node("n5", -9, "192.0.2.5", "10.1.1.64/26"),
        ]),
        &[
            "10.1.2.0/25 via 192.0.2.3 dev if2 src 192.0.2.1 (n3)",
            "10.1.2.128/25 via 192.0.2.4 dev if2 src 192.0.2.1 (n4)",
            &overlap("n5", "10.1.1.64/26", "n1", "10.1.1.0/24"),
            &overlap("n3", "10.1.0.0/22", "n4", "10.1.2.128/25"),
            &overlap("n2", "10.1.2.0/24", "n4", "10.1.2.128/25"),
        ],
    );
    // Of one age the first by name; the other has it once that one is gone.
    let (b, a) = (node("b", 1, "192.0.2.3", "10.1.2.0/24"), node("a", 1, "192.0.2.2", "10.1.2.0/24"));
    check(
        &case(&[Arc::clone(&b), a]),
        &["10.1.2.0/24 via 192.0.2.2 dev if2 src 192.0.2.1 (a)", &overlap("b", "10.1.2.0/24", "a", "10.1.2.0/24")],
    );
    check(&case(&[b]), &["10.1.2.0/24 via 192.0.2.3 dev if2 src 192.0.2.1 (b)"]);
}

#[test]
fn no_range_has_a_node_in_it() {
    check(
        &case(&[node("n2", 1, "192.0.2.2", "192.0.0.0/16"), node("n3", 1, "10.1.3.7", "10.1.3.0/24")]),
        &[
            "PodCIDRCoversNode: podCIDR 192.0.0.0/16 of node n2 has the node address 192.0.2.1 in it and gets no route: \
             give pods a range of their own",
            "PodCIDRCoversNode: podCIDR 10.1.3.0/24 of node n3 has the node address 10.1.3.7 in it and gets no route: \
             give pods a range of their own",
        ],
    );
}

#[test]
fn a_link_that_is_down_is_waited_for() {
    let mut down = link(2, "eth0", 1500, "192.0.2.1/24");
    down.up = false;
    check(&case(&[node("n2", 1, "192.0.2.2", "10.1.2.0/24")]).links(vec![down]), &[]);
}

#[test]
fn every_node_derives_the_same_address_of_a_tunnel() {
    // Fixed for ever: see `vtep_mac`.
    assert_eq!(vtep_mac(ip("198.51.100.2")).to_string(), "f2:3d:92:27:f4:d8");
    assert_eq!(vtep_mac(ip("2001:db8:5::3")).to_string(), "fa:ef:f1:61:2b:d5");
}

/// The kernel after a plan has been carried out.
#[derive(Default, Clone)]
struct Kernel(PeersObserved);

/// Numbers that look random and are the same each time (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

impl Kernel {
    fn carry_out(&mut self, actions: &[PeerAction]) {
        for action in actions {
            self.step(action);
        }
    }

    /// One step in ten fails, and what needs the device that is then not there.
    fn carry_out_badly(&mut self, actions: &[PeerAction], dice: &mut Dice) {
        for action in actions {
            let needs =
                match action {
                    PeerAction::SetTunnelMtu(underlay, _)
                    | PeerAction::RaiseTunnel(underlay)
                    | PeerAction::AddTunnelAddress(underlay, _)
                    | PeerAction::RemoveTunnelAddress(underlay, _)
                    | PeerAction::PutNeighbour(underlay, ..)
                    | PeerAction::RemoveNeighbour(underlay, ..)
                    | PeerAction::PutForwarding(underlay, ..)
                    | PeerAction::RemoveForwarding(underlay, ..) => self.0.tunnels.contains_key(underlay),
                    PeerAction::CreateTunnel(underlay, _) => !self.0.tunnels.contains_key(underlay),
                    PeerAction::AddRoute(_, want) | PeerAction::ReplaceRoute(_, want) => match want.way {
                        Way::Direct(_) => true,
                        Way::Tunnel(underlay) => self.0.tunnels.get(&underlay).is_some_and(|tunnel| {
                            tunnel.up && want.source.is_none_or(|ip| tunnel.addresses.contains(&ip))
                        }),
                    },
                    PeerAction::DeleteTunnel(..) | PeerAction::RemoveRoute(..) => true,
                };
            if needs && dice.below(10) > 0 {
                self.step(action);
            }
        }
    }

    fn tunnel(&mut self, underlay: Underlay) -> &mut TunnelSeen {
        self.0.tunnels.get_mut(&underlay).expect("a step on a device that is not there")
    }

    fn step(&mut self, action: &PeerAction) {
        match action {
            PeerAction::DeleteTunnel(underlay, index) => {
                self.0.tunnels.remove(underlay).expect("a device");
                self.0.routes.retain(|route| route.entry.is_none_or(|entry| entry.route.link != *index));
            }
            PeerAction::CreateTunnel(underlay, want) => {
                let made = TunnelSeen {
                    index: Ifindex::new(100 + *underlay as u32).unwrap(),
                    mac: Some(want.mac),
                    mtu: want.mtu,
                    up: false,
                    vxlan: Some((want.vni, want.port)),
                    local: Some(want.local).filter(|ip| !ip.is_unspecified()),
                    addresses: Default::default(),
                    neighbours: BTreeMap::new(),
                    forwarding: BTreeMap::new(),
                };
                assert!(self.0.tunnels.insert(*underlay, made).is_none());
            }
            PeerAction::SetTunnelMtu(underlay, mtu) => self.tunnel(*underlay).mtu = *mtu,
            PeerAction::RaiseTunnel(underlay) => self.tunnel(*underlay).up = true,
            PeerAction::AddTunnelAddress(underlay, ip) => _ = self.tunnel(*underlay).addresses.insert(*ip),
            PeerAction::RemoveTunnelAddress(underlay, ip) => _ = self.tunnel(*underlay).addresses.remove(ip),
            PeerAction::PutNeighbour(underlay, ip, mac, _) => _ = self.tunnel(*underlay).neighbours.insert(*ip, *mac),
            PeerAction::RemoveNeighbour(underlay, ip, _) => _ = self.tunnel(*underlay).neighbours.remove(ip).unwrap(),
            PeerAction::PutForwarding(underlay, mac, to, _) => _ = self.tunnel(*underlay).forwarding.insert(*mac, *to),
            PeerAction::RemoveForwarding(underlay, mac, _) => {
                _ = self.tunnel(*underlay).forwarding.remove(mac).unwrap()
            }
            PeerAction::AddRoute(cidr, want) => {
                assert!(!self.0.routes.iter().any(|route| route.destination == (cidr.network(), cidr.prefix_len())));
                self.route(*cidr, want);
            }
            PeerAction::ReplaceRoute(cidr, want) => {
                self.step(&PeerAction::RemoveRoute(*cidr));
                self.route(*cidr, want);
            }
            PeerAction::RemoveRoute(cidr) => {
                let before = self.0.routes.len();
                let ours = |route: &SeenRoute| {
                    route.protocol == ROUTE_PROTOCOL && route.destination == (cidr.network(), cidr.prefix_len())
                };
                self.0.routes.retain(|route| !ours(route));
                assert_eq!(self.0.routes.len() + 1, before);
            }
        }
    }

    fn route(&mut self, cidr: IpNet, want: &orlop_cni::WantedRoute) {
        let destination = (cidr.network(), cidr.prefix_len());
        let link = match want.way {
            Way::Direct(link) => link,
            Way::Tunnel(underlay) => {
                let tunnel = self.tunnel(underlay);
                assert!(tunnel.up, "a route to nowhere");
                assert!(want.source.is_none_or(|ip| tunnel.addresses.contains(&ip)), "a source that is not there");
                tunnel.index
            }
        };
        let route = Route { destination, gateway: Some(want.gateway), link, source: want.source };
        let entry = RouteEntry { route, protocol: ROUTE_PROTOCOL, mtu: want.mtu };
        self.0.routes.push(SeenRoute { destination, protocol: ROUTE_PROTOCOL, entry: Some(entry) });
    }

    /// Makes it so and sees that then nothing is to be done; gives the steps in words.
    #[track_caller]
    fn become_as(&mut self, case: &Case) -> Vec<String> {
        let wanted = case.wanted();
        let plan = plan_peers(&wanted, &self.0);
        self.carry_out(&plan.actions);
        assert_eq!(plan_peers(&wanted, &self.0).actions, [], "not at rest");
        let ours = self.0.routes.iter().filter(|route| route.protocol == ROUTE_PROTOCOL).count();
        let refused =
            plan.problems.iter().filter(|problem| matches!(problem, PeerProblem::ForeignRoute { .. })).count();
        assert_eq!((ours + refused, self.0.tunnels.len()), (wanted.routes.len(), wanted.tunnels.len()));
        plan.actions.iter().map(words).collect()
    }
}

fn words(action: &PeerAction) -> String {
    match action {
        PeerAction::DeleteTunnel(underlay, _) => format!("delete {}", underlay.device()),
        PeerAction::CreateTunnel(underlay, _) => format!("create {}", underlay.device()),
        PeerAction::SetTunnelMtu(underlay, mtu) => format!("mtu {} {mtu}", underlay.device()),
        PeerAction::RaiseTunnel(underlay) => format!("raise {}", underlay.device()),
        PeerAction::AddTunnelAddress(_, ip) => format!("+address {ip}"),
        PeerAction::RemoveTunnelAddress(_, ip) => format!("-address {ip}"),
        PeerAction::PutNeighbour(_, ip, ..) => format!("+neighbour {ip}"),
        PeerAction::RemoveNeighbour(_, ip, _) => format!("-neighbour {ip}"),
        PeerAction::PutForwarding(_, _, ip, _) => format!("+forwarding {ip}"),
        PeerAction::RemoveForwarding(_, _, ip) => format!("-forwarding {ip}"),
        PeerAction::AddRoute(cidr, want) => format!("+route {cidr} {}", way(want.way)),
        PeerAction::ReplaceRoute(cidr, want) => format!("=route {cidr} {}", way(want.way)),
        PeerAction::RemoveRoute(cidr) => format!("-route {cidr}"),
    }
}

/// Each case after the one before, with the steps between.
#[track_caller]
fn story(steps: &[(Case, &[&str])]) {
    let mut kernel = Kernel::default();
    for (nth, (case, want)) in steps.iter().enumerate() {
        assert_eq!(kernel.become_as(case), *want, "step {nth}");
    }
}

#[test]
fn nodes_join_and_leave() {
    let (n2, n3) = (node("n2", 1, "192.0.2.2", "10.1.2.0/24"), node("n3", 2, "198.51.100.3", "10.1.3.0/24"));
    story(&[
        (case(&[]), &[]),
        (case(&[Arc::clone(&n2)]), &["+route 10.1.2.0/24 if2"]),
        (
            case(&[Arc::clone(&n2), n3]),
            &[
                "create orlop-vxlan",
                "raise orlop-vxlan",
                "+address 10.1.1.0",
                "+address fd00:1::",
                "+forwarding 198.51.100.3",
                "+neighbour 10.1.3.0",
                "+route 10.1.3.0/24 orlop-vxlan",
            ],
        ),
        // The device goes with the last who needs it, after the routes.
        (case(&[n2]), &["-route 10.1.3.0/24", "delete orlop-vxlan"]),
        (case(&[]), &["-route 10.1.2.0/24"]),
    ]);
}

#[test]
fn a_node_changes() {
    let far = |address: &str, cidr: &str| node("n2", 1, address, cidr);
    let stays = node("n3", 2, "198.51.100.3", "10.1.3.0/24");
    let with = |n2: Arc<ClusterNode>| case(&[n2, Arc::clone(&stays)]);
    let mut kernel = Kernel::default();
    kernel.become_as(&with(far("198.51.100.2", "10.1.2.0/24")));
    // Its address: the next hop's Ethernet address with it. The route stays.
    assert_eq!(
        kernel.become_as(&with(far("198.51.100.9", "10.1.2.0/24"))),
        ["+forwarding 198.51.100.9", "+neighbour 10.1.2.0", "-forwarding 198.51.100.2"]
    );
    // Its range.
    assert_eq!(
        kernel.become_as(&with(far("198.51.100.9", "10.1.4.0/24"))),
        ["+neighbour 10.1.4.0", "+route 10.1.4.0/24 orlop-vxlan", "-route 10.1.2.0/24", "-neighbour 10.1.2.0"]
    );
    // It moves onto our link, and away again.
    assert_eq!(
        kernel.become_as(&with(far("192.0.2.9", "10.1.4.0/24"))),
        ["=route 10.1.4.0/24 if2", "-neighbour 10.1.4.0", "-forwarding 198.51.100.9"]
    );
    assert_eq!(kernel.become_as(&with(far("192.0.2.8", "10.1.4.0/24"))), ["=route 10.1.4.0/24 if2"]);
    assert_eq!(
        kernel.become_as(&with(far("198.51.100.9", "10.1.4.0/24"))),
        ["+forwarding 198.51.100.9", "+neighbour 10.1.4.0", "=route 10.1.4.0/24 orlop-vxlan"]
    );
    // Ranges change hands.
    assert_eq!(
        kernel.become_as(&case(&[far("198.51.100.9", "10.1.3.0/24"), node("n3", 2, "198.51.100.3", "10.1.4.0/24")])),
        ["+neighbour 10.1.3.0", "+neighbour 10.1.4.0"]
    );
}

#[test]
fn this_node_changes() {
    let (n2, n3) = (node("n2", 1, "192.0.2.2", "10.1.2.0/24"), node("n3", 2, "198.51.100.3", "10.1.3.0/24"));
    let now = case(&[n2, n3]);
    let mut kernel = Kernel::default();
    kernel.become_as(&now);
    // Its link's MTU.
    let links = vec![link(2, "eth0", 1400, "192.0.2.1/24")];
    assert_eq!(kernel.become_as(&now.clone().links(links)), ["mtu orlop-vxlan 1350", "=route 10.1.3.0/24 orlop-vxlan"]);
    kernel.become_as(&now);
    // Its range: the device's own address, and with it the source of what it sends.
    assert_eq!(
        kernel.become_as(&now.clone().own("192.0.2.1", "10.1.9.0/24")),
        ["+address 10.1.9.0", "=route 10.1.3.0/24 orlop-vxlan", "-address 10.1.1.0", "-address fd00:1::"]
    );
    // Its address: the device has another Ethernet address and is made anew, with all that is on it.
    let links = vec![link(2, "eth0", 1500, "192.0.2.7/24")];
    assert_eq!(
        kernel.become_as(&now.own("192.0.2.7", "10.1.9.0/24").links(links)),
        [
            "delete orlop-vxlan",
            "create orlop-vxlan",
            "raise orlop-vxlan",
            "+address 10.1.9.0",
            "+forwarding 198.51.100.3",
            "+neighbour 10.1.3.0",
            "=route 10.1.2.0/24 if2",
            "+route 10.1.3.0/24 orlop-vxlan",
        ]
    );
}

#[test]
fn what_others_did_is_put_right() {
    let now =
        case(&[node("n2", 1, "192.0.2.2", "10.1.2.0/24"), node("n3", 2, "198.51.100.3", "10.1.3.0/24 fd00:3::/64")]);
    let mut whole = Kernel::default();
    whole.become_as(&now);
    let check = |harm: fn(&mut PeersObserved), want: &[&str]| {
        let mut kernel = whole.clone();
        harm(&mut kernel.0);
        assert_eq!(kernel.become_as(&now), want);
    };
    check(
        |seen| seen.routes.clear(),
        &["+route 10.1.2.0/24 if2", "+route 10.1.3.0/24 orlop-vxlan", "+route fd00:3::/64 orlop-vxlan"],
    );
    check(|seen| seen.routes.truncate(1), &["+route 10.1.3.0/24 orlop-vxlan", "+route fd00:3::/64 orlop-vxlan"]);
    check(
        |seen| {
            let tunnel = seen.tunnels.get_mut(&Underlay::V4).unwrap();
            tunnel.neighbours.clear();
            tunnel.forwarding.clear();
            tunnel.addresses.clear();
        },
        &[
            "+address 10.1.1.0",
            "+address fd00:1::",
            "+forwarding 198.51.100.3",
            "+neighbour 10.1.3.0",
            "+neighbour fe80::1c90:a8ff:fece:c977",
        ],
    );
    // Down: the kernel has taken routes and IPv6 addresses away.
    check(
        |seen| {
            seen.tunnels.get_mut(&Underlay::V4).unwrap().up = false;
            seen.routes.truncate(1);
        },
        &["raise orlop-vxlan", "+address fd00:1::", "+route 10.1.3.0/24 orlop-vxlan", "+route fd00:3::/64 orlop-vxlan"],
    );
    // Gone, or of another kind or number.
    let anew = [
        "create orlop-vxlan",
        "raise orlop-vxlan",
        "+address 10.1.1.0",
        "+address fd00:1::",
        "+forwarding 198.51.100.3",
        "+neighbour 10.1.3.0",
        "+neighbour fe80::1c90:a8ff:fece:c977",
        "+route 10.1.3.0/24 orlop-vxlan",
        "+route fd00:3::/64 orlop-vxlan",
    ];
    check(
        |seen| {
            seen.tunnels.clear();
            seen.routes.truncate(1);
        },
        &anew,
    );
    let other: Vec<&str> = ["delete orlop-vxlan"].into_iter().chain(anew).collect();
    check(|seen| seen.tunnels.get_mut(&Underlay::V4).unwrap().vxlan = None, &other);
    check(|seen| seen.tunnels.get_mut(&Underlay::V4).unwrap().vxlan = Some((1, 4789)), &other);
    check(|seen| seen.tunnels.get_mut(&Underlay::V4).unwrap().mac = Some(Mac([2, 0, 0, 0, 0, 0])), &other);
}

#[test]
fn a_route_of_somebody_else_is_left_alone() {
    let now = case(&[node("n2", 1, "192.0.2.2", "10.1.2.0/24")]);
    let foreign = |entry: bool| {
        let destination = (ip("10.1.2.0"), 24);
        let route =
            Route { destination, gateway: Some(ip("192.0.2.254")), link: Ifindex::new(2).unwrap(), source: None };
        let entry = entry.then_some(RouteEntry { route, protocol: 4, mtu: None });
        SeenRoute { destination, protocol: 4, entry }
    };
    for (entry, words) in
        [(true, "route 10.1.2.0/24 via 192.0.2.254 on if2 (protocol 4)"), (false, "route 10.1.2.0/24 (protocol 4)")]
    {
        let mut kernel = Kernel(PeersObserved { routes: vec![foreign(entry)], ..PeersObserved::default() });
        let plan = plan_peers(&now.wanted(), &kernel.0);
        assert_eq!(
            plan.problems,
            [PeerProblem::ForeignRoute { peer: "n2".into(), cidr: net("10.1.2.0/24"), route: words.into() }]
        );
        assert_eq!(kernel.become_as(&now), Vec::<String>::new());
        // Beside ours it does no harm; it is not what goes with the peer.
        kernel.0.routes.clear();
        kernel.become_as(&now);
        kernel.0.routes.push(foreign(entry));
        assert_eq!(kernel.become_as(&now), Vec::<String>::new());
        assert_eq!(kernel.become_as(&case(&[])), ["-route 10.1.2.0/24"]);
        assert_eq!(kernel.0.routes, [foreign(entry)]);
    }
}

#[test]
fn five_thousand_nodes() {
    let peers: Vec<Arc<ClusterNode>> = (0..5_000_u32)
        .map(|n| {
            let (high, low) = (n / 250, n % 250 + 1);
            let address = if n % 2 == 0 { format!("192.0.2.{low}") } else { format!("198.51.{high}.{low}") };
            node(&format!("w{n}"), i64::from(n), &address, &format!("10.{}.{}.0/24", 100 + n / 250, n % 250))
        })
        .collect();
    let mut kernel = Kernel::default();
    kernel.become_as(&case(&peers));
    // 192.0.2.1 is this node's own.
    assert_eq!((kernel.0.routes.len(), case(&peers).wanted().problems.len()), (4_980, 20));
    let fewer = case(&peers[2..]);
    let gone = ["-route 10.100.1.0/24", "-neighbour 10.100.1.0", "-forwarding 198.51.0.2"];
    assert_eq!(kernel.become_as(&fewer), gone);
}

#[test]
fn steps_that_fail_are_made_up_for() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut kernel = Kernel::default();
        for _ in 0..6 {
            let peers: Vec<_> = (2..8)
                .filter_map(|n| {
                    let near = if dice.below(2) == 0 { "192.0.2" } else { "198.51.100" };
                    let range = dice.below(9) + 2;
                    let there = dice.below(4) > 0;
                    let (address, cidr) =
                        (format!("{near}.{}", n + dice.below(2) * 10), format!("10.1.{range}.0/24 fd00:{range}::/64"));
                    there.then(|| node(&format!("n{n}"), n as i64, &address, &cidr))
                })
                .collect();
            let mut now = case(&peers);
            if dice.below(3) == 0 {
                now = now.own("192.0.2.1", "10.1.90.0/24");
            }
            let wanted = now.wanted();
            let tries = (0..50).find(|_| {
                let plan = plan_peers(&wanted, &kernel.0);
                kernel.carry_out_badly(&plan.actions, &mut dice);
                plan.actions.is_empty()
            });
            assert!(tries.is_some(), "seed {seed}: {:?}", plan_peers(&wanted, &kernel.0).actions);
            assert_eq!((kernel.0.routes.len(), kernel.0.tunnels.len()), (wanted.routes.len(), wanted.tunnels.len()));
        }
    }
}
