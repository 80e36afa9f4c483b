//! CHECK, GC and STATUS.

use crate::world::{BOTH, Container, Node, addresses, apply, ip, names, names_of};
use orlop_kernel::{Address, Mac, Netlink, Netns, Request, Route, Sysctl, write_sysctls};
use orlop_model::Ifindex;
use serde_json::{Value, json};

fn index(netns: &Netns, name: &str) -> Ifindex {
    Netlink::open_in(netns).unwrap().link(name).unwrap().unwrap().index
}

fn route_of(netns: &Netns, to: &str) -> Route {
    let routes = Netlink::open_in(netns).unwrap().routes().unwrap();
    routes.into_iter().find(|route| route.destination.0 == ip(to)).unwrap()
}

fn neighbour_of(netns: &Netns, of: &str) -> Request {
    let neighbours = Netlink::open_in(netns).unwrap().neighbours().unwrap();
    Request::delete_neighbour(neighbours.into_iter().find(|neighbour| neighbour.ip == ip(of)).unwrap())
}

/// Adds a container, breaks one thing, and expects CHECK to name it.
#[track_caller]
fn check(words: &[&str], damage: impl FnOnce(&Node, &Container, &str)) {
    let node = Node::new(&BOTH);
    let c = Container::new("checked");
    let more = json!({ "prevResult": node.add(&c, "eth0") });
    assert_eq!(node.call("CHECK", &c, "eth0", &more).success(), Value::Null);
    damage(&node, &c, &names_of(&c, "eth0").host);
    node.call("CHECK", &c, "eth0", &more).failure(102, words);
    // DEL and ADD, as it says, repair it.
    node.del(&c, "eth0");
    let more = json!({ "prevResult": node.add(&c, "eth0") });
    assert_eq!(node.call("CHECK", &c, "eth0", &more).success(), Value::Null);
}

#[test]
fn check_names_what_differs() {
    let mac = Mac([2, 0, 0, 0, 0, 0x77]);
    check(&["container checked, interface eth0", "link eth0 has not the address 10.88.0.2"], |_, c, _| {
        let link = index(&c.netns, "eth0");
        c.apply(Request::delete_address(Address { link, ip: ip("10.88.0.2"), prefix: 32 }));
    });
    check(&["the container has no route to ::/0 by fe80::1"], |_, c, _| {
        c.apply(Request::delete_route(route_of(&c.netns, "::")));
    });
    check(&["no neighbour entry of 169.254.1.1 at"], |_, c, _| c.apply(neighbour_of(&c.netns, "169.254.1.1")));
    check(&["link eth0 is down"], |_, c, _| c.apply(Request::set_link_up("eth0", false)));
    check(&["link eth0 has the MTU 1300, and not 1500"], |_, c, _| c.apply(Request::set_link_mtu("eth0", 1300)));
    check(&["link eth0 has the address 02:00:00:00:00:77"], |_, c, _| c.apply(Request::set_link_mac("eth0", mac)));
    check(&["the node has no route to 10.88.0.2 by orc"], |node, _, _| {
        apply(&node.netns, Request::delete_route(route_of(&node.netns, "10.88.0.2")));
    });
    check(&["the node has no neighbour entry of fd00:88::2 at"], |node, _, _| {
        apply(&node.netns, neighbour_of(&node.netns, "fd00:88::2"));
    });
    check(&["link orc", "is down", "also: "], |node, _, host| apply(&node.netns, Request::set_link_up(host, false)));
    check(&["is not on the node", "link eth0 is not in the container"], |node, _, host| {
        apply(&node.netns, Request::delete_link(index(&node.netns, host)));
    });
    check(&["no address is leased to it in", "leases.json"], |node, _, _| {
        std::fs::remove_file(node.lease_file()).unwrap();
    });
    check(&["/proc/sys/net/ipv4/ip_forward is 0"], |node, _, _| {
        write_sysctls(&node.netns, &[Sysctl::new("net/ipv4/ip_forward", "0")]).unwrap();
    });
}

#[test]
fn check_goes_by_the_result_that_it_is_given() {
    let node = Node::new(&BOTH);
    let c = Container::new("result");
    let result = node.add(&c, "eth0");
    let call = |change: &dyn Fn(&mut Value)| {
        let mut result = result.clone();
        change(&mut result);
        node.call("CHECK", &c, "eth0", &json!({ "prevResult": result }))
    };
    node.call("CHECK", &c, "eth0", &Value::Null).failure(7, &["prevResult is missing"]);
    call(&|result| result["interfaces"] = json!([])).failure(102, &["prevResult lists no interface orc"]);
    call(&|result| result["interfaces"][1]["sandbox"] = json!(""))
        .failure(102, &["no interface eth0 in the container"]);
    call(&|result| result["ips"] = json!([]))
        .failure(102, &["10.88.0.2 is leased to it, and prevResult does not list it"]);
    call(&|result| result["ips"][0]["address"] = json!("10.88.0.9/32"))
        .failure(102, &["has not the address 10.88.0.9"]);
    // What later plugins did is theirs: another interface, another route, their removal of one of ours.
    let theirs = |result: &mut Value| {
        result["interfaces"].as_array_mut().unwrap().push(json!({ "name": "ifb0", "mac": "02:00:00:00:00:01" }));
        result["routes"] = json!([{ "dst": "198.51.100.0/24", "gw": "198.51.100.1" }]);
        result["dns"] = json!({ "nameservers": ["192.0.2.53"] });
    };
    c.apply(Request::delete_route(route_of(&c.netns, "::")));
    assert_eq!(call(&theirs).success(), Value::Null);
    // An older shape, as that version's ADD gave it.
    let older = |result: &mut Value| {
        theirs(result);
        result["cniVersion"] = json!("0.4.0");
    };
    assert_eq!(call(&older).success(), Value::Null);
}

#[test]
fn gc_removes_what_is_not_valid() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let node = Node::new(&BOTH);
        let (a, b) = (Container::new("a"), Container::new("b"));
        node.add(&a, "eth0");
        let kept = node.add(&a, "net1");
        node.add(&b, "eth0");
        assert_eq!(node.ask("GC", &json!({ key: [{ "containerID": "a", "ifname": "net1" }] })).success(), Value::Null);
        assert_eq!((a.links(), b.links()), (vec!["net1".to_owned()], vec![]), "{key}");
        let left: Vec<(String, String)> = addresses(&kept).into_iter().map(|ip| (ip, "a/net1".to_owned())).collect();
        assert_eq!(node.leases(), left);
        // Go's empty list.
        assert_eq!(node.ask("GC", &json!({ key: null })).success(), Value::Null);
        node.expect_clean();
        node.ask("GC", &json!({ key: [{ "containerID": 1 }] })).failure(7, &[key]);
    }
}

#[test]
fn gc_finds_links_whose_leases_are_lost_and_leaves_other_networks_alone() {
    let node = Node::new(&BOTH);
    let (lost, kept, other) = (Container::new("lost"), Container::new("kept"), Container::new("other"));
    node.add(&lost, "eth0");
    node.add(&kept, "eth0");
    node.add_with(&other, "eth0", json!({ "name": "others", "podCIDRs": ["10.77.0.0/24"] }));
    std::fs::remove_file(node.lease_file()).unwrap();
    node.ask("GC", &json!({ "cni.dev/valid-attachments": [{ "containerID": "kept", "ifname": "eth0" }] })).success();
    assert!(lost.links().is_empty());
    assert_eq!((kept.links(), other.links()), (vec!["eth0".to_owned()], vec!["eth0".to_owned()]));
}

#[test]
fn gc_without_a_list_releases_only_what_has_lost_its_wire() {
    let node = Node::new(&BOTH);
    let (lives, ended) = (Container::new("lives"), Container::new("ended"));
    node.add(&lives, "eth0");
    node.add(&ended, "eth0");
    apply(&node.netns, Request::delete_link(index(&node.netns, &names_of(&ended, "eth0").host)));
    assert_eq!(node.ask("GC", &Value::Null).success(), Value::Null);
    assert_eq!(lives.links(), ["eth0"]);
    assert!(node.leases().iter().all(|(_, holder)| holder == "lives/eth0"));
    assert_eq!(names(&node.netns).len(), 1);
}

#[test]
fn status_tells_whether_add_could_be_served() {
    let node = Node::new(&["10.88.0.0/30", "fd00:88::/64"]);
    let (a, b) = (Container::new("a"), Container::new("b"));
    assert_eq!(node.ask("STATUS", &Value::Null).success(), Value::Null);
    node.add(&a, "eth0");
    node.ask("STATUS", &Value::Null).failure(50, &["no IPv4 address is left", "add a range"]);
    node.call("ADD", &b, "eth0", &Value::Null).failure(101, &["no address is left in 10.88.0.0/30: 1 of 1"]);
    // An address that was just released rests for a minute: trying again later helps.
    node.del(&a, "eth0");
    node.call("ADD", &b, "eth0", &Value::Null).failure(11, &["1 were released less than a minute ago"]);
    node.ask("STATUS", &Value::Null).failure(50, &["no IPv4 address is left"]);
    let more = json!({ "podCIDRs": ["10.88.0.0/30", "10.88.4.0/24", "fd00:88::/64"] });
    assert_eq!(node.ask("STATUS", &more).success(), Value::Null);
    assert_eq!(addresses(&node.add_with(&b, "eth0", more.clone())), ["10.88.4.2", "fd00:88::3"]);

    write_sysctls(&node.netns, &[Sysctl::new("net/ipv6/conf/all/forwarding", "0")]).unwrap();
    node.ask("STATUS", &more).failure(51, &["/proc/sys/net/ipv6/conf/all/forwarding is 0"]);
    node.ask("STATUS", &json!({ "podCIDRs": [] })).failure(7, &["podCIDRs"]);
    node.ask("STATUS", &json!({ "dataDir": "/dev/null/x" })).failure(50, &["/dev/null/x/pods/lock", "writable folder"]);
}
