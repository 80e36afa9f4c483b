//! Pods across nodes: two or three agents of one cluster, on one link or with a router between.

use nix::sys::socket::{setsockopt, sockopt};
use orlop_apiserver::{Fault, Request, Status};
use orlop_tests::{Families, NodeAt, Nodes, Place};
use serde_json::json;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What a node's `ip ARGS` prints.
fn ip(nodes: &Nodes, node: &str, args: &str) -> String {
    nodes[node].on_host().ip(args)
}

fn route(nodes: &Nodes, node: &str, to: &str) -> String {
    let family = if to.contains(':') { "-6 " } else { "" };
    ip(nodes, node, &format!("{family}route show {to}"))
}

/// Waits until a route of `node` to `to` has `part` in it, and gives it.
#[track_caller]
fn wait_route(nodes: &Nodes, node: &str, to: &str, part: &str) -> String {
    nodes.wait_until(&format!("{node} has a route to {to} with {part:?}"), || {
        Some(route(nodes, node, to)).filter(|route| route.contains(part))
    })
}

#[track_caller]
fn wait_no_route(nodes: &Nodes, node: &str, to: &str) {
    nodes.wait_until(&format!("{node} has no route to {to}"), || route(nodes, node, to).is_empty().then_some(()));
}

fn with_port(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// A pod's server is reached from a pod and from the host of another node, as itself and with the source
/// that it should have: `own` are those of the host.
#[track_caller]
fn check_reach(nodes: &Nodes, (from, client): (&str, &str), (to, server): (&str, &str), own: &[&str]) {
    let payload = vec![7; 1_000_000];
    for ip in nodes[to].pod(server).ips {
        let addr = with_port(&ip, 7000);
        let any = if ip.contains(':') { "[::]:7000" } else { "0.0.0.0:7000" };
        let _served = nodes[to].in_pod(server).serve_tcp(any, server);
        nodes.wait_reach(from, client, &addr);
        let met = nodes[from].in_pod(client).talk(&addr, &payload);
        assert!(nodes[from].pod(client).ips.contains(&met.client.ip().to_string()), "{met:?}");
        assert_eq!(met.server, server);
        let met = nodes[from].on_host().talk(&addr, &payload);
        let own = own.iter().find(|one| one.contains(':') == ip.contains(':')).expect("a source of this family");
        assert_eq!(met.client.ip().to_string(), **own, "what the host sends from");
    }
}

/// The pod `a` on the first node and `b` on the second, each way.
#[track_caller]
fn check_both_ways(nodes: &Nodes, own: [&[&str]; 2]) {
    check_reach(nodes, ("n1", "a"), ("n2", "b"), own[0]);
    check_reach(nodes, ("n2", "b"), ("n1", "a"), own[1]);
}

/// Two nodes with the pods `a` and `b`.
fn two(second: NodeAt, families: [Families; 2]) -> Nodes {
    let [underlay, pods] = families;
    let nodes = Nodes::new(&[NodeAt::number(1).families(underlay, pods), second.families(underlay, pods)]);
    nodes.idle_pod("n1", "a");
    nodes.idle_pod("n2", "b");
    nodes
}

fn near() -> NodeAt {
    NodeAt::number(2)
}

fn far() -> NodeAt {
    NodeAt::number(2).on_segment(1)
}

#[test]
fn on_one_link_directly() {
    let nodes = two(near(), [Families::Dual, Families::Dual]);
    wait_route(&nodes, "n1", "10.244.2.0/24", "via 10.99.0.2 dev up0");
    wait_route(&nodes, "n2", "fd24:1::/112", "via fd99::1 dev up0");
    check_both_ways(&nodes, [&["10.99.0.1", "fd99::1"], &["10.99.0.2", "fd99::2"]]);
    // Nobody needs a tunnel.
    assert!(!ip(&nodes, "n1", "link").contains("orlop-vxlan"));
}

#[test]
fn behind_a_router_through_a_tunnel() {
    let nodes = two(far(), [Families::V4, Families::Dual]);
    check_both_ways(&nodes, [&["10.244.1.0", "fd24:1::"], &["10.244.2.0", "fd24:2::"]]);
    let route = wait_route(&nodes, "n1", "10.244.2.0/24", "dev orlop-vxlan");
    assert!(
        route.contains("via 10.244.2.0") && route.contains("src 10.244.1.0") && route.contains("mtu 1450"),
        "{route}"
    );
    // The tunnel's address is no pod's.
    assert_eq!(nodes.idle_pod("n1", "c")[0], "10.244.1.3");
}

#[test]
fn over_ipv6_alone() {
    let nodes = two(near(), [Families::V6, Families::V6]);
    check_both_ways(&nodes, [&["fd99::1"], &["fd99::2"]]);
    drop(nodes);
    let nodes = two(far(), [Families::V6, Families::Dual]);
    check_both_ways(&nodes, [&["10.244.1.0", "fd24:1::"], &["10.244.2.0", "fd24:2::"]]);
    assert!(ip(&nodes, "n1", "link show orlop-vxlan6").contains("mtu 1430"));
}

/// Sends one datagram that no router may cut; `false` when the socket knows that it is too long.
fn sends(socket: &UdpSocket, bytes: usize) -> bool {
    match socket.send(&vec![7; bytes]) {
        Ok(sent) => sent == bytes,
        Err(error) => match error.raw_os_error() {
            Some(libc::EMSGSIZE) => false,
            other => panic!("{bytes} bytes: {other:?}"),
        },
    }
}

/// A socket in a place that sets DF, or does not cut up itself.
fn never_cut(place: &Place, to: &str) -> UdpSocket {
    let v6 = to.starts_with('[');
    let socket = place.udp(if v6 { "[::]:0" } else { "0.0.0.0:0" });
    place.run(|| socket.connect(to)).expect("connect");
    let (level, name, value) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("a small number");
    // SAFETY: the value lives across the call and has the length that is said.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    assert_eq!(done, 0, "MTU_DISCOVER: {}", std::io::Error::last_os_error());
    setsockopt(&socket, sockopt::SndBuf, &(1 << 20)).expect("SO_SNDBUF");
    socket
}

#[test]
fn a_packet_that_is_too_long_for_the_tunnel_is_told_of() {
    let nodes = two(far(), [Families::V4, Families::Dual]);
    for (ip, headers) in nodes["n2"].pod("b").ips.into_iter().zip([28, 48]) {
        let to = with_port(&ip, 7001);
        let any = if ip.contains(':') { "[::]:7000" } else { "0.0.0.0:7000" };
        let _served = nodes["n2"].in_pod("b").serve_tcp(any, "b");
        nodes.wait_reach("n1", "a", &with_port(&ip, 7000));
        let server = nodes["n2"].in_pod("b").udp(&to);
        for (who, place) in [("a pod", nodes["n1"].in_pod("a")), ("the host", nodes["n1"].on_host())] {
            let client = never_cut(&place, &to);
            // 1500 is what the pod's own link takes; the answer of the node comes a moment after.
            nodes.wait_until(&format!("{who} knows that {to} takes 1450 bytes"), || {
                (!sends(&client, 1451 - headers)).then_some(())
            });
            // Errors of packets before may still come.
            nodes.wait_until(&format!("{who} sends 1450 bytes to {to}"), || {
                sends(&client, 1450 - headers).then_some(())
            });
            let mut bytes = [0; 2000];
            let longest =
                std::iter::repeat_with(|| server.recv(&mut bytes).expect("a datagram")).find(|n| *n == 1450 - headers);
            assert!(longest.is_some());
        }
    }
}

#[test]
fn a_datagram_of_many_packets_goes_through_the_tunnel() {
    let nodes = two(far(), [Families::V4, Families::Dual]);
    let question = vec![b'7'; 8_000];
    for ip in nodes["n2"].pod("b").ips {
        let to = with_port(&ip, 7001);
        let _served = nodes["n2"].in_pod("b").serve_udp(&to, "b");
        for (who, place) in [("a pod", nodes["n1"].in_pod("a")), ("the host", nodes["n1"].on_host())] {
            let client = place.udp(if ip.contains(':') { "[::]:0" } else { "0.0.0.0:0" });
            client.set_read_timeout(Some(Duration::from_millis(300))).expect("SO_RCVTIMEO");
            // The first one of IPv6 tells the sender how large packets may be.
            nodes.wait_until(&format!("{who} hears from {to}"), || {
                client.send_to(&question, &to).ok()?;
                let mut bytes = [0; 9_000];
                let (length, from) = client.recv_from(&mut bytes).ok()?;
                assert_eq!((&bytes[..2], &bytes[2..length], from.to_string()), (&b"b "[..], &question[..], to.clone()));
                Some(())
            });
        }
    }
}

#[test]
fn nodes_join_move_and_leave() {
    let mut nodes = two(far(), [Families::V4, Families::V4]);
    nodes.join(NodeAt::number(3));
    nodes.idle_pod("n3", "c");
    wait_route(&nodes, "n1", "10.244.3.0/24", "via 10.99.0.3 dev up0");
    check_reach(&nodes, ("n1", "a"), ("n3", "c"), &["10.99.0.1"]);
    check_reach(&nodes, ("n2", "b"), ("n3", "c"), &["10.244.2.0"]);
    check_reach(&nodes, ("n3", "c"), ("n2", "b"), &["10.244.3.0"]);
    // Another address, first of one behind the router and then of one on the link.
    nodes.readdress("n2", 77);
    let known = |node: &str, text: &str| {
        nodes[node].on_host().run(|| {
            let output =
                std::process::Command::new("bridge").args(["fdb", "show"]).output().expect("bridge of iproute2");
            String::from_utf8_lossy(&output.stdout).contains(text)
        })
    };
    nodes.wait_until("n1 knows the new address", || known("n1", "dst 10.99.1.77").then_some(()));
    assert!(!known("n1", "dst 10.99.1.2 "));
    check_both_ways(&nodes, [&["10.244.1.0"], &["10.244.2.0"]]);
    nodes.readdress("n3", 33);
    wait_route(&nodes, "n1", "10.244.3.0/24", "via 10.99.0.33 dev up0");
    check_reach(&nodes, ("n1", "a"), ("n3", "c"), &["10.99.0.1"]);
    check_reach(&nodes, ("n2", "b"), ("n3", "c"), &["10.244.2.0"]);
    for (node, pod) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        assert_eq!(nodes[node].pod(pod).containers[0].restarts, 0);
    }
    // Who leaves is forgotten, and with the last one far away the tunnel.
    nodes.leave("n2");
    wait_no_route(&nodes, "n1", "10.244.2.0/24");
    nodes.wait_until("n1 has no tunnel", || (!ip(&nodes, "n1", "link").contains("orlop-vxlan")).then_some(()));
    check_reach(&nodes, ("n1", "a"), ("n3", "c"), &["10.99.0.1"]);
}

#[test]
fn what_somebody_takes_away_comes_back() {
    let mut nodes = Nodes::new(&[NodeAt::number(1), NodeAt::number(2), NodeAt::number(3).on_segment(1)]);
    for (node, pod) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        nodes.idle_pod(node, pod);
    }
    let all_there = |nodes: &Nodes| {
        wait_route(nodes, "n1", "10.244.2.0/24", "via 10.99.0.2 dev up0");
        wait_route(nodes, "n1", "10.244.3.0/24", "dev orlop-vxlan");
        check_reach(nodes, ("n1", "a"), ("n2", "b"), &["10.99.0.1"]);
        check_reach(nodes, ("n1", "a"), ("n3", "c"), &["10.244.1.0"]);
    };
    all_there(&nodes);
    for harm in [
        "route del 10.244.2.0/24",
        "route del 10.244.3.0/24",
        "neigh del 10.244.3.0 dev orlop-vxlan",
        "addr del 10.244.1.0/32 dev orlop-vxlan",
        "link set orlop-vxlan down",
        "link del orlop-vxlan",
    ] {
        ip(&nodes, "n1", harm);
        all_there(&nodes);
    }
    // With the link that peers are on their routes go and come.
    ip(&nodes, "n1", "link set up0 down");
    ip(&nodes, "n1", "link set up0 up");
    ip(&nodes, "n1", "route add default via 10.99.0.254");
    all_there(&nodes);
    // Nothing depends on the agent, and one that finds no API server takes nothing away.
    let (a, ip_of_c) = (nodes["n1"].in_pod("a"), nodes["n3"].pod("c").ips[0].clone());
    let served = nodes["n3"].in_pod("c").serve_tcp("0.0.0.0:7002", "c");
    nodes["n1"].kill();
    assert_eq!(a.met(&format!("{ip_of_c}:7002")).server, "c");
    drop(served);
    nodes.server.stop();
    nodes["n1"].start();
    all_there(&nodes);
    nodes.server.start_again();
    all_there(&nodes);
}

#[test]
fn what_is_in_the_way_is_an_event() {
    let nodes = two(near(), [Families::V4, Families::V4]);
    wait_route(&nodes, "n1", "10.244.2.0/24", "via 10.99.0.2");
    ip(&nodes, "n1", "route add 10.244.9.0/24 via 10.99.0.254");
    // A node without an agent, and one that claims what n2 has.
    for (name, address, cidr) in [("n9", "10.99.0.9", "10.244.9.0/24"), ("n10", "10.99.0.10", "10.244.2.128/25")] {
        let node = json!({
            "metadata": {"name": name}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        });
        nodes.server.create("nodes", node).expect("the Node");
    }
    for part in [
        "podCIDR 10.244.9.0/24 of node n9 has a route that is not Orlop's",
        "podCIDR 10.244.2.128/25 of node n10 overlaps",
    ] {
        nodes.wait_until(&format!("n1 says {part:?}"), || {
            nodes["n1"].orlop(&["node"]).stdout.contains(part).then_some(())
        });
    }
    assert!(route(&nodes, "n1", "10.244.9.0/24").contains("via 10.99.0.254"));
    check_both_ways(&nodes, [&["10.99.0.1"], &["10.99.0.2"]]);
    // Once it is out of the way, the route is there at once.
    ip(&nodes, "n1", "route del 10.244.9.0/24");
    wait_route(&nodes, "n1", "10.244.9.0/24", "via 10.99.0.9 dev up0");
    for name in ["n9", "n10"] {
        nodes.server.delete("nodes", "", name, None).expect("delete the Node");
    }
    wait_no_route(&nodes, "n1", "10.244.9.0/24");
}

#[test]
fn a_reset_leaves_no_way_to_other_nodes() {
    let mut nodes = Nodes::new(&[NodeAt::number(1), NodeAt::number(2), NodeAt::number(3).on_segment(1)]);
    wait_route(&nodes, "n1", "10.244.2.0/24", "via 10.99.0.2");
    wait_route(&nodes, "n1", "10.244.3.0/24", "dev orlop-vxlan");
    nodes["n1"].stop();
    let said = nodes["n1"].reset().ok();
    for gone in ["route 10.244.2.0/24 is gone", "route 10.244.3.0/24 is gone", "link orlop-vxlan is gone"] {
        assert!(said.contains(gone), "{said}");
    }
    assert!(!ip(&nodes, "n1", "route").contains("10.244.") && !ip(&nodes, "n1", "link").contains("vxlan"));
}

#[test]
fn always_through_the_tunnel_where_the_configuration_says_so() {
    let keys = "nodeRouting: vxlan\nvxlanVNI: 7\nvxlanPort: 4789";
    let nodes = Nodes::new(&[NodeAt::number(1).config(keys), NodeAt::number(2).config(keys)]);
    nodes.idle_pod("n1", "a");
    nodes.idle_pod("n2", "b");
    check_both_ways(&nodes, [&["10.244.1.0"], &["10.244.2.0"]]);
    let link = ip(&nodes, "n1", "-d link show orlop-vxlan");
    assert!(link.contains("vxlan id 7 ") && link.contains("dstport 4789"), "{link}");
}

#[test]
fn a_node_that_may_not_see_the_others_says_how_to_allow_it() {
    let nodes = Nodes::new(&[NodeAt::number(1), NodeAt::number(2).on_segment(1)]);
    wait_route(&nodes, "n1", "10.244.2.0/24", "dev orlop-vxlan");
    // As the Node authorizer does since v1.32, until the node's group is bound to kube-proxy's role.
    let status = || Status::new(403, "Forbidden", "nodes is forbidden: User cannot list resource \"nodes\"");
    let all = |request: &Request| {
        request.resource == "nodes" && request.name.is_empty() && ["list", "watch"].contains(&&*request.verb)
    };
    let rule = nodes.server.faults().add(Fault::Refuse(status()), None, all);
    nodes.server.faults().close_connections();
    nodes.wait_until("n1 says what to do", || {
        let said = nodes["n1"].orlop(&["node"]).stdout;
        (said.contains("pods of other nodes are not reached") && said.contains("--clusterrole=system:node-proxier"))
            .then_some(())
    });
    // What it knew stays.
    wait_route(&nodes, "n1", "10.244.2.0/24", "dev orlop-vxlan");
    let node = json!({
        "metadata": {"name": "n9"}, "spec": {"podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.99.0.9"}]},
    });
    nodes.server.create("nodes", node).expect("the Node");
    assert!(nodes.server.faults().remove(rule) > 0);
    wait_route(&nodes, "n1", "10.244.9.0/24", "via 10.99.0.9 dev up0");
}
