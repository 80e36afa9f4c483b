//! ADD, DEL and what lies between them.

use crate::world::{BOTH, Container, Node, addresses, echo, env_of, ip, names, names_of};
use orlop_kernel::{Netlink, Request, Route, VethPair};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn containers_and_the_node_reach_each_other_over_both_families() {
    let node = Node::new(&BOTH);
    let (a, b) = (Container::new("a"), Container::new("b"));
    assert_eq!(addresses(&node.add(&a, "eth0")), ["10.88.0.2", "fd00:88::2"]);
    assert_eq!(addresses(&node.add(&b, "net.7")), ["10.88.0.3", "fd00:88::3"]);
    for (from, to, at, seen) in [
        (&a.netns, &b.netns, "10.88.0.3", "10.88.0.2"),
        (&b.netns, &a.netns, "fd00:88::2", "fd00:88::3"),
        (&node.netns, &a.netns, "10.88.0.2", "192.0.2.1"),
        (&node.netns, &b.netns, "fd00:88::3", "2001:db8::1"),
        (&a.netns, &node.netns, "192.0.2.1", "10.88.0.2"),
        (&b.netns, &node.netns, "2001:db8::1", "fd00:88::3"),
    ] {
        assert_eq!(echo(from, to, at), ip(seen), "to {at}");
    }
    node.del(&a, "eth0");
    node.del(&b, "net.7");
    node.expect_clean();
}

#[test]
fn results_have_the_shape_of_their_version() {
    let node = Node::new(&BOTH);
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let c = Container::new("shape");
        let result = node.add_with(&c, "eth0", json!({ "cniVersion": version, "mtu": 1400 }));
        let links = names_of(&c, "eth0");
        let mut host = json!({ "name": links.host, "mac": links.host_mac.to_string() });
        let mut pod = json!({ "name": "eth0", "mac": links.pod_mac.to_string(), "sandbox": c.path() });
        if version == "1.1.0" {
            host["mtu"] = json!(1400);
            pod["mtu"] = json!(1400);
        }
        let mut ips = Vec::new();
        for (address, gateway, family) in
            addresses(&result).iter().zip([("169.254.1.1", "4"), ("fe80::1", "6")]).map(|(a, (g, f))| (a, g, f))
        {
            let prefix = if family == "4" { 32 } else { 128 };
            let mut ip = json!({ "address": format!("{address}/{prefix}"), "gateway": gateway, "interface": 1 });
            if version.starts_with("0.") {
                ip["version"] = json!(family);
            }
            ips.push(ip);
        }
        let routes = json!([{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }, { "dst": "::/0", "gw": "fe80::1" }]);
        let wanted = json!({ "cniVersion": version, "interfaces": [host, pod], "ips": ips, "routes": routes });
        assert_eq!(result, wanted, "{version}");
        node.del(&c, "eth0");
    }
    node.expect_clean();
}

#[test]
fn several_interfaces_of_one_container() {
    let node = Node::new(&BOTH);
    let (c, other) = (Container::new("several"), Container::new("other"));
    node.add(&other, "eth0");
    let first = node.add(&c, "eth0");
    // The first has the default routes, and keeps them.
    let second = node.add(&c, "net1");
    assert_eq!(second["routes"], json!([]));
    let third = node.add_with(&c, "net2", json!({ "routes": [{ "dst": "198.51.100.0/24" }] }));
    assert_eq!(third["routes"], json!([{ "dst": "198.51.100.0/24", "gw": "169.254.1.1" }]));
    for result in [&first, &second, &third] {
        for at in addresses(result) {
            echo(&node.netns, &c.netns, &at);
            echo(&other.netns, &c.netns, &at);
        }
    }
    for (ifname, result) in [("eth0", first), ("net1", second.clone()), ("net2", third)] {
        assert_eq!(node.call("CHECK", &c, ifname, &json!({ "prevResult": result })).success(), Value::Null, "{ifname}");
    }
    // A route that the configuration names is not taken from another interface.
    let default = json!({ "routes": [{ "dst": "0.0.0.0/0" }] });
    node.call("ADD", &c, "net3", &default).failure(100, &["has a route to 0.0.0.0/0", "\"routes\""]);
    node.del(&c, "eth0");
    assert_eq!(c.links(), ["net1", "net2"]);
    assert_eq!(node.leases().iter().filter(|(_, holder)| holder.starts_with("several/")).count(), 4);
    assert_eq!(node.call("CHECK", &c, "net1", &json!({ "prevResult": second })).success(), Value::Null);
}

#[test]
fn thirty_at_once_get_thirty_addresses() {
    let node = Node::new(&["10.88.0.0/24"]);
    let containers: Vec<Container> = (0..30).map(|number| Container::new(&format!("c{number}"))).collect();
    let results: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = containers.iter().map(|c| scope.spawn(|| node.add(c, "eth0"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let given: BTreeSet<String> = results.iter().flat_map(addresses).collect();
    assert_eq!(given.len(), 30, "{given:?}");
    let leased: BTreeSet<String> = node.leases().into_iter().map(|(ip, _)| ip).collect();
    assert_eq!(given, leased);
    echo(&containers[0].netns, &containers[29].netns, &addresses(&results[29])[0]);
    std::thread::scope(|scope| {
        for c in &containers {
            scope.spawn(|| node.del(c, "eth0"));
        }
    });
    node.expect_clean();
}

#[test]
fn del_needs_no_namespace_and_may_be_repeated() {
    let node = Node::new(&BOTH);
    for ended in [false, true] {
        let c = Container::new("ended");
        node.add(&c, "eth0");
        let (id, path) = (c.id.clone(), c.path());
        if ended {
            drop(c);
        }
        let del = |more: &[(&str, &str)]| {
            let mut env = vec![("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", &id), ("CNI_IFNAME", "eth0")];
            env.extend_from_slice(more);
            assert_eq!(node.run(&env, &node.conf(&Value::Null).to_string()).success(), Value::Null);
        };
        del(&[]);
        del(&[("CNI_NETNS", "")]);
        del(&[("CNI_NETNS", &path)]);
        node.expect_clean();
    }
    // Nor does it need a configuration that ADD would take.
    let c = Container::new("reconfigured");
    node.add(&c, "eth0");
    let called = node.call("DEL", &c, "eth0", &json!({ "podCIDRs": [], "runtimeConfig": { "bandwidth": { "x": 1 } } }));
    assert!(called.ok && called.stderr.contains("podCIDRs"), "{called:?}");
    node.expect_clean();
}

#[test]
fn a_damaged_lease_file_stops_add_and_not_del() {
    let node = Node::new(&BOTH);
    let (c, d) = (Container::new("c"), Container::new("d"));
    node.add(&c, "eth0");
    std::fs::write(node.lease_file(), "{\"leases\": [").unwrap();
    node.call("ADD", &d, "eth0", &Value::Null).failure(5, &["leases.json are damaged", "delete the file"]);
    node.ask("STATUS", &Value::Null).failure(50, &["leases.json are damaged"]);
    let called = node.call("DEL", &c, "eth0", &Value::Null);
    assert!(called.ok && called.stderr.contains("damaged"), "{called:?}");
    assert!(names(&node.netns).is_empty() && c.links().is_empty() && d.links().is_empty());
}

#[test]
fn an_interface_that_is_there_is_not_touched() {
    let node = Node::new(&BOTH);
    let c = Container::new("twice");
    let result = node.add(&c, "eth0");
    let leases = node.leases();
    node.call("ADD", &c, "eth0", &Value::Null).failure(100, &["twice has an interface eth0", "call DEL"]);
    assert_eq!(node.leases(), leases);
    assert_eq!(node.call("CHECK", &c, "eth0", &json!({ "prevResult": result })).success(), Value::Null);

    // Nor somebody else's.
    let (foreign, mac) = (Container::new("foreign"), names_of(&c, "x"));
    let pair = VethPair {
        name: "theirs",
        mac: mac.host_mac,
        peer_name: "eth0",
        peer_mac: mac.pod_mac,
        peer_netns: &foreign.netns,
        mtu: 1500,
    };
    Netlink::open_in(&node.netns).unwrap().apply(vec![Request::create_veth(&pair)]).unwrap();
    node.call("ADD", &foreign, "eth0", &Value::Null).failure(100, &["eth0 already"]);
    node.del(&foreign, "eth0");
    assert_eq!(foreign.links(), ["eth0"]);
}

#[test]
fn what_fails_leaves_nothing() {
    let node = Node::new(&BOTH);
    let gone = Container::new("gone");
    let env = env_of("ADD", &gone, "eth0", "/run/netns/no such namespace");
    node.run(&env, &node.conf(&Value::Null).to_string()).failure(3, &["gone has no network namespace"]);
    // A namespace's path that leads elsewhere, and the node's own.
    let env = env_of("ADD", &gone, "eth0", "/dev/null");
    node.run(&env, &node.conf(&Value::Null).to_string()).failure(8, &["/dev/null is not a network namespace"]);
    let own = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&node.netns));
    let env = env_of("ADD", &gone, "eth0", &own);
    node.run(&env, &node.conf(&Value::Null).to_string()).failure(8, &["is the node's own", "host's network"]);
    // Refused after the lease was given.
    node.add(&gone, "eth0");
    let leases = node.leases();
    let default = json!({ "routes": [{ "dst": "::/0" }] });
    node.call("ADD", &gone, "net1", &default).failure(100, &["has a route to ::/0"]);
    assert_eq!((gone.links(), node.leases()), (vec!["eth0".to_owned()], leases));
    node.del(&gone, "eth0");
    node.expect_clean();
}

/// The plugin is killed at the first moment when something new of its work can be seen.
#[test]
fn a_plugin_killed_at_any_moment_leaves_what_del_removes_and_add_finishes() {
    let node = Node::new(&BOTH);
    let host = |c: &Container| Netlink::open_in(&node.netns).unwrap().link(&names_of(c, "eth0").host).unwrap();
    let inside = |c: &Container| Netlink::open_in(&c.netns).unwrap();
    type Moment<'a> = (&'a str, Box<dyn Fn(&Container) -> bool + 'a>);
    let moments: [Moment<'_>; 7] = [
        ("started", Box::new(|_| true)),
        ("locked", Box::new(|_| node.dir.path().join("pods/lock").exists())),
        ("written", Box::new(|_| node.lease_file().with_extension("new").exists())),
        ("leased", Box::new(|c| node.leases().iter().any(|(_, holder)| *holder == format!("{}/eth0", c.id)))),
        ("linked", Box::new(|c| host(c).is_some())),
        ("named", Box::new(|c| host(c).is_some_and(|link| link.alias.is_some()))),
        ("addressed", Box::new(|c| inside(c).addresses().unwrap().iter().any(|a| a.ip.to_string().starts_with("10.")))),
    ];
    for (number, (name, seen)) in moments.iter().enumerate().flat_map(|moment| [moment; 3]) {
        let c = Container::new(&format!("killed-{number}"));
        let mut child = node.start(&env_of("ADD", &c, "eth0", &c.path()), &node.conf(&Value::Null).to_string());
        while !seen(&c) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        node.del(&c, "eth0");
        assert!(c.links().is_empty(), "{name}");
        node.expect_clean();
        // And the same container starts anew.
        let result = node.add(&c, "eth0");
        assert_eq!(echo(&node.netns, &c.netns, &addresses(&result)[0]), ip("192.0.2.1"), "{name}");
        node.del(&c, "eth0");
    }
    node.expect_clean();
}

#[test]
fn an_add_after_a_crash_without_del_finishes_it() {
    let node = Node::new(&BOTH);
    let c = Container::new("crashed");
    // A host side whose other end was in a namespace that is gone never stays; one in another namespace does.
    let elsewhere = Container::new("crashed");
    let result = node.add(&elsewhere, "eth0");
    assert_eq!(addresses(&node.add(&c, "eth0")), addresses(&result));
    assert!(elsewhere.links().is_empty());
    echo(&node.netns, &c.netns, &addresses(&result)[0]);
    node.del(&c, "eth0");
    node.expect_clean();
}

#[test]
fn addresses_and_mac_that_are_asked_for() {
    let node = Node::new(&BOTH);
    let asked = |ips: &[&str]| json!({ "runtimeConfig": { "ips": ips, "mac": "02:11:22:33:44:55" } });
    let (a, b, c) = (Container::new("a"), Container::new("b"), Container::new("c"));
    let result = node.add_with(&a, "eth0", asked(&["10.88.0.77/24"]));
    assert_eq!(addresses(&result), ["10.88.0.77", "fd00:88::2"]);
    assert_eq!(result["interfaces"][1]["mac"], "02:11:22:33:44:55");
    echo(&node.netns, &a.netns, "10.88.0.77");
    assert_eq!(node.call("CHECK", &a, "eth0", &json!({ "prevResult": result })).success(), Value::Null);

    let add = |more: &Value| node.call("ADD", &b, "eth0", more);
    add(&asked(&["10.88.0.77"])).failure(101, &["10.88.0.77 is leased to somebody else"]);
    add(&asked(&["10.88.0.255"])).failure(101, &["10.88.0.255 is in none of the ranges"]);
    add(&asked(&["10.99.0.2"])).failure(101, &["10.99.0.2 is in none of the ranges"]);
    add(&asked(&["10.88.0.8", "10.88.0.9"])).failure(7, &["one address a family"]);
    add(&asked(&["ten"])).failure(7, &["\"ten\" is no address"]);
    add(&json!({ "runtimeConfig": { "mac": "01:00:5e:00:00:01" } })).failure(7, &["01:00:5e:00:00:01", "unicast"]);
    assert!(node.leases().iter().all(|(_, holder)| holder == "a/eth0"));

    // args go before CNI_ARGS, and what is unknown in either is no error.
    let path = c.path();
    let mut env = env_of("ADD", &c, "eth0", &path).to_vec();
    env.push(("CNI_ARGS", "IP=10.88.0.5;K8S_POD_NAME=web;FOO=BAR"));
    let more = json!({ "args": { "cni": { "ips": ["fd00:88::9"], "labels": [] } }, "what": 1 });
    let called = node.run(&env, &node.conf(&more).to_string());
    assert!(called.stderr.contains("nothing is done with FOO"), "{called:?}");
    assert!(called.stderr.contains("nothing is done with the keys what"), "{called:?}");
    assert_eq!(addresses(&called.success()), ["10.88.0.2", "fd00:88::9"]);
    node.del(&c, "eth0");
    assert_eq!(addresses(&node.run(&env, &node.conf(&Value::Null).to_string()).success()), ["10.88.0.5", "fd00:88::3"]);
}

#[test]
fn the_result_of_plugins_before_is_kept() {
    let node = Node::new(&["10.88.0.0/24"]);
    let c = Container::new("chained");
    let dns = json!({ "nameservers": ["192.0.2.53"], "search": ["example.org"] });
    assert_eq!(node.add_with(&c, "eth0", json!({ "dns": dns }))["dns"], dns);
    node.del(&c, "eth0");

    let before = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "br0", "mac": "02:00:00:00:00:09", "pciID": "0000:00:1f.6" }],
        "ips": [{ "address": "198.51.100.7/24", "interface": 0 }],
        "routes": [{ "dst": "198.51.100.0/24", "priority": 7 }],
        "dns": { "nameservers": ["198.51.100.1"] },
    });
    let result = node.add_with(&c, "eth0", json!({ "prevResult": before, "dns": dns }));
    assert_eq!(result["interfaces"][0], before["interfaces"][0]);
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][0], before["ips"][0]);
    assert_eq!(result["ips"][1], json!({ "address": "10.88.0.3/32", "gateway": "169.254.1.1", "interface": 2 }));
    assert_eq!(result["routes"][0], before["routes"][0]);
    assert_eq!(result["dns"], before["dns"]);
    assert_eq!(node.call("CHECK", &c, "eth0", &json!({ "prevResult": result })).success(), Value::Null);
}

/// The example, as libcni makes a plugin's configuration of it.
#[test]
fn the_example_works() {
    let node = Node::new(&BOTH);
    let c = Container::new("example");
    let text = include_str!("../../examples/10-orlop.conflist");
    let list: Value = serde_json::from_str(text).unwrap();
    let mut conf = list["plugins"][0].clone();
    conf["cniVersion"] = list["cniVersion"].clone();
    conf["name"] = list["name"].clone();
    assert_eq!(conf["dataDir"], "/run/orlop-cni", "the default, spelled out");
    conf["dataDir"] = json!(node.dir.path());
    let called = node.run(&env_of("ADD", &c, "eth0", &c.path()), &conf.to_string());
    assert_eq!(called.stderr, "");
    let result = called.success();
    assert_eq!(addresses(&result), ["10.244.1.2", "fd00:244:1::2"]);
    assert_eq!(result["interfaces"][1]["mtu"], 1450);
    conf["prevResult"] = result;
    node.run(&env_of("CHECK", &c, "eth0", &c.path()), &conf.to_string()).success();
}

#[test]
fn a_network_of_ipv6_alone() {
    let node = Node::new(&["fd00:88::/64"]);
    let (a, b) = (Container::new("a"), Container::new("b"));
    assert_eq!(node.add(&a, "eth0")["routes"], json!([{ "dst": "::/0", "gw": "fe80::1" }]));
    let result = node.add(&b, "eth0");
    assert_eq!(echo(&a.netns, &b.netns, "fd00:88::3"), ip("fd00:88::2"));
    assert_eq!(node.call("CHECK", &b, "eth0", &json!({ "prevResult": result })).success(), Value::Null);
}

#[test]
fn the_mtu_is_that_of_the_way_out() {
    let node = Node::new(&BOTH);
    let (c, outside) = (Container::new("c"), Container::new("outside"));
    let mac = names_of(&outside, "up");
    let pair = VethPair {
        name: "up0",
        mac: mac.host_mac,
        peer_name: "up1",
        peer_mac: mac.pod_mac,
        peer_netns: &outside.netns,
        mtu: 1380,
    };
    let mut netlink = Netlink::open_in(&node.netns).unwrap();
    netlink.apply(vec![Request::create_veth(&pair), Request::set_link_up("up0", true)]).unwrap();
    let link = netlink.link("up0").unwrap().unwrap().index;
    let default = Route { destination: (ip("0.0.0.0"), 0), gateway: Some(ip("198.51.100.1")), link, source: None };
    netlink.apply(vec![Request::put_route(default)]).unwrap();
    assert_eq!(node.add(&c, "eth0")["interfaces"][1]["mtu"], 1380);
    let links = Netlink::open_in(&c.netns).unwrap().links().unwrap();
    assert!(links.iter().any(|link| link.name == "eth0" && link.mtu == 1380), "{links:?}");
}

/// A killed ADD has leased addresses, and now others are asked for.
#[test]
fn addresses_of_a_killed_add_are_released_when_others_are_asked_for() {
    let node = Node::new(&BOTH);
    let c = Container::new("c");
    node.add(&c, "eth0");
    c.apply(Request::delete_link(Netlink::open_in(&c.netns).unwrap().link("eth0").unwrap().unwrap().index));
    let more = json!({ "runtimeConfig": { "ips": ["10.88.0.50"] } });
    node.call("ADD", &c, "eth0", &more).failure(11, &["10.88.0.50", "released now"]);
    node.expect_clean();
    assert_eq!(addresses(&node.add_with(&c, "eth0", more))[0], "10.88.0.50");
}
