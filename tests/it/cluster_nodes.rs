//! Pods across nodes: two or three agents of one cluster, on one link or with a router between.

use orlop_tests::{NodeAt, Nodes};

/// What a node's `ip ARGS` prints.
fn ip(nodes: &Nodes, node: &str, args: &str) -> String {
    nodes[node].on_host().ip(args)
}

/// Waits until a route of `node` to `to` has `part` in it, and gives it.
#[track_caller]
fn wait_route(nodes: &Nodes, node: &str, to: &str, part: &str) -> String {
    let family = if to.contains(':') { "-6 " } else { "" };
    nodes.wait_until(&format!("{node} has a route to {to} with {part:?}"), || {
        let route = ip(nodes, node, &format!("{family}route show {to}"));
        route.contains(part).then_some(route)
    })
}

/// A server in a pod, reached from a pod and from the host of another node, and what it saw.
#[track_caller]
fn check_reach(nodes: &Nodes, (from, client): (&str, &str), (to, server): (&str, &str), own: (&str, &str)) {
    for ip in nodes[to].pod(server).ips {
        let addr = if ip.contains(':') { format!("[{ip}]:7000") } else { format!("{ip}:7000") };
        let any = if ip.contains(':') { "[::]:7000" } else { "0.0.0.0:7000" };
        let _served = nodes[to].in_pod(server).serve_tcp(any, server);
        let payload = vec![7; 1_000_000];
        nodes.wait_reach(from, client, &addr);
        let met = nodes[from].in_pod(client).talk(&addr, &payload);
        assert!(nodes[from].pod(client).ips.contains(&met.client.ip().to_string()), "{met:?}");
        let met = nodes[from].on_host().talk(&addr, &payload);
        let want = if ip.contains(':') { own.1 } else { own.0 };
        assert_eq!(met.client.ip().to_string(), want, "what the host sends from");
    }
}

#[test]
fn two_nodes_on_one_link() {
    let nodes = Nodes::new(&[NodeAt::number(1), NodeAt::number(2)]);
    nodes.idle_pod("n1", "a");
    nodes.idle_pod("n2", "b");
    wait_route(&nodes, "n1", "10.244.2.0/24", "via 10.99.0.2 dev up0");
    wait_route(&nodes, "n2", "10.244.1.0/24", "via 10.99.0.1 dev up0");
    check_reach(&nodes, ("n1", "a"), ("n2", "b"), ("10.99.0.1", ""));
    check_reach(&nodes, ("n2", "b"), ("n1", "a"), ("10.99.0.2", ""));
    // Nobody needs a tunnel.
    assert!(!ip(&nodes, "n1", "link").contains("orlop-vxlan"));
}

#[test]
fn two_nodes_with_a_router_between() {
    let nodes = Nodes::new(&[NodeAt::number(1), NodeAt::number(2).on_segment(1)]);
    nodes.idle_pod("n1", "a");
    nodes.idle_pod("n2", "b");
    check_reach(&nodes, ("n1", "a"), ("n2", "b"), ("10.244.1.0", ""));
    check_reach(&nodes, ("n2", "b"), ("n1", "a"), ("10.244.2.0", ""));
    let route = wait_route(&nodes, "n1", "10.244.2.0/24", "dev orlop-vxlan");
    assert!(
        route.contains("via 10.244.2.0") && route.contains("src 10.244.1.0") && route.contains("mtu 1450"),
        "{route}"
    );
}
