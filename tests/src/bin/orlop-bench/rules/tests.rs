use super::*;

fn net() -> ClusterNet {
    ClusterNet {
        pod_cidr: "10.0.0.0/8".into(),
        service_cidr: "172.30.0.0/16".into(),
        node_ip: Ipv4Addr::new(192, 168, 0, 2),
    }
}

fn service(number: u8, node_port: Option<u16>, endpoints: &[&str]) -> ServicePort {
    ServicePort {
        namespace: format!("ns{number}"),
        name: format!("svc{number}"),
        port_name: "p80".into(),
        cluster_ip: Ipv4Addr::new(172, 30, 0, 40 + number),
        port: 80,
        node_port,
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
    }
}

/// The lines of the text that name the part, in their order.
fn check(text: &str, part: &str, wanted: &str) {
    let got: Vec<&str> = text.lines().filter(|line| line.contains(part)).collect();
    let wanted: Vec<&str> = wanted.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(got, wanted, "lines with {part:?} of\n{text}");
}

#[test]
fn chains_are_named_as_kube_proxy_names_them() {
    // The names are those of upstream's own tests.
    for (text, length, wanted) in [
        ("ns1/svc1:p80tcp", 16, "XPGD46QRK7WJZT7O"),
        ("ns1/svc1:p80tcp10.180.0.1:80", 16, "SXIVWICOYRO3J4NJ"),
        ("ns1/svc1/tcp/p80", 8, "ULMVA6XW"),
    ] {
        assert_eq!(hash(text, length), wanted, "{text}");
    }
}

#[test]
fn iptables_rules_of_one_service() {
    let text = iptables::restore(&[service(1, None, &["10.180.0.1:80"])], &net());
    check(
        &text,
        "KUBE-SERVICES",
        "
        :KUBE-SERVICES - [0:0]
        -I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
        -I OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
        :KUBE-SERVICES - [0:0]
        -I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
        -I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
        -A KUBE-SERVICES -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
        -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        ",
    );
    check(
        &text,
        "-A KUBE-SVC-",
        "
        -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
        -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment \"ns1/svc1:p80 -> 10.180.0.1:80\" -j KUBE-SEP-SXIVWICOYRO3J4NJ
        ",
    );
    check(
        &text,
        "-A KUBE-SEP-",
        "
        -A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j KUBE-MARK-MASQ
        -A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
        ",
    );
}

#[test]
fn iptables_chooses_with_falling_odds() {
    let text = iptables::restore(&[service(1, None, &["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"])], &net());
    let odds: Vec<&str> = text.lines().filter_map(|line| line.split("--probability ").nth(1)).collect();
    let odds: Vec<&str> = odds.iter().filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(odds, ["0.3333333333", "0.5000000000"]);
}

#[test]
fn iptables_in_a_large_cluster_has_no_comments_below_the_services() {
    let endpoints: Vec<String> = (0..1001).map(|n| format!("10.1.{}.{}:80", n / 250, n % 250 + 1)).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let text = iptables::restore(&[service(1, None, &endpoints)], &net());
    let below = |line: &&str| line.starts_with("-A KUBE-SEP-") && line.contains("comment");
    assert_eq!(text.lines().filter(below).count(), 0);
}

#[test]
fn iptables_node_ports_and_services_without_endpoints() {
    let services = [service(3, Some(3003), &["10.180.0.3:80"]), service(6, Some(3006), &[])];
    let text = iptables::restore(&services, &net());
    check(
        &text,
        "KUBE-EXT-X27LE4BHSL4DOUIK",
        "
        :KUBE-EXT-X27LE4BHSL4DOUIK - [0:0]
        -A KUBE-NODEPORTS -m comment --comment ns3/svc3:p80 -m tcp -p tcp --dport 3003 -j KUBE-EXT-X27LE4BHSL4DOUIK
        -A KUBE-EXT-X27LE4BHSL4DOUIK -m comment --comment \"masquerade traffic for ns3/svc3:p80 external destinations\" -j KUBE-MARK-MASQ
        -A KUBE-EXT-X27LE4BHSL4DOUIK -j KUBE-SVC-X27LE4BHSL4DOUIK
        ",
    );
    check(
        &text,
        "no endpoints",
        "
        -A KUBE-SERVICES -m comment --comment \"ns6/svc6:p80 has no endpoints\" -m tcp -p tcp -d 172.30.0.46 --dport 80 -j REJECT
        -A KUBE-EXTERNAL-SERVICES -m comment --comment \"ns6/svc6:p80 has no endpoints\" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 3006 -j REJECT
        ",
    );
}

#[test]
fn iptables_jumps_end_with_the_newest_first() {
    check(
        &iptables::restore(&[], &net()),
        "-I FORWARD",
        "
        -I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
        -I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
        -I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
        -I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
        ",
    );
}

#[test]
fn nftables_transaction_of_services() {
    let services = [service(1, None, &["10.180.0.1:80"]), service(4, Some(3004), &["10.180.0.4:80", "10.180.0.5:80"])];
    let text = nftables::transaction(&services, &net());
    check(
        &text,
        "ns1/svc1",
        "
        add chain ip kube-proxy service-ULMVA6XW-ns1/svc1/tcp/p80
        flush chain ip kube-proxy service-ULMVA6XW-ns1/svc1/tcp/p80
        add element ip kube-proxy service-ips { 172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }
        add rule ip kube-proxy service-ULMVA6XW-ns1/svc1/tcp/p80 meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 10.180.0.1 . 80 }
        ",
    );
    check(
        &text,
        "external-LAUZTJTB-ns4",
        "
        add chain ip kube-proxy external-LAUZTJTB-ns4/svc4/tcp/p80
        flush chain ip kube-proxy external-LAUZTJTB-ns4/svc4/tcp/p80
        add element ip kube-proxy service-nodeports { tcp . 3004 : goto external-LAUZTJTB-ns4/svc4/tcp/p80 }
        add rule ip kube-proxy external-LAUZTJTB-ns4/svc4/tcp/p80 mark set mark or 0x4000 comment \"masquerade\"
        add rule ip kube-proxy external-LAUZTJTB-ns4/svc4/tcp/p80 goto service-LAUZTJTB-ns4/svc4/tcp/p80
        ",
    );
    check(
        &text,
        "numgen random mod 2",
        "
        add rule ip kube-proxy service-LAUZTJTB-ns4/svc4/tcp/p80 meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.180.0.4 . 80 , 1 : 10.180.0.5 . 80 }
        ",
    );
    check(
        &text,
        "ip kube-proxy services ",
        "
        add rule ip kube-proxy services ip daddr @cluster-ips ip saddr != 10.0.0.0/8 mark set mark or 0x4000 comment \"masquerade clusterIP traffic from outside cluster\"
        add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
        add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
        ",
    );
}

#[test]
fn nftables_refuses_for_services_without_endpoints() {
    check(
        &nftables::transaction(&[service(6, Some(3006), &[])], &net()),
        "ns6/svc6",
        "
        add element ip kube-proxy no-endpoint-services { 172.30.0.46 . tcp . 80 comment \"ns6/svc6:p80\" : goto reject-chain }
        add element ip kube-proxy no-endpoint-nodeports { tcp . 3006 comment \"ns6/svc6:p80\" : goto reject-chain }
        ",
    );
}
