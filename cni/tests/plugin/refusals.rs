//! What the plugin refuses, by which number and in which words; and what VERSION says.

use crate::world::{BOTH, Container, Node, env_of};
use serde_json::{Value, json};

/// One ADD with keys of the configuration changed.
#[track_caller]
fn check(more: Value, code: u32, words: &[&str]) {
    let node = Node::new(&BOTH);
    let c = Container::new("refused");
    let called = node.call("ADD", &c, "eth0", &more);
    called.failure(code, words);
    // Errors are written in the version that was asked for, when it is one of ours.
    let version = more["cniVersion"].as_str().filter(|_| code != 1).unwrap_or("1.1.0");
    assert_eq!(called.json["cniVersion"], version);
    assert!(c.links().is_empty());
    node.expect_clean();
}

#[test]
fn versions() {
    check(json!({ "cniVersion": "0.2.0" }), 1, &["\"0.2.0\" is not supported", "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"]);
    check(json!({ "cniVersion": null }), 1, &["\"0.1.0\" is not supported"]);
    check(json!({ "cniVersion": "2.0.0" }), 1, &["\"2.0.0\""]);
    check(json!({ "cniVersion": 1 }), 7, &["cniVersion: invalid type"]);
}

#[test]
fn what_is_not_done_is_refused_by_key_and_value() {
    let caps = |key: &str, value: Value| json!({ "runtimeConfig": { key: value }, "cniVersion": "1.0.0" });
    check(
        caps("portMappings", json!([{ "hostPort": 80, "containerPort": 80, "protocol": "tcp" }])),
        2,
        &["runtimeConfig.portMappings = [{\"containerPort\":80", "portmap plugin"],
    );
    check(caps("bandwidth", json!({ "egressRate": 1000 })), 2, &["{\"egressRate\":1000}", "bandwidth plugin"]);
    check(caps("ipRanges", json!([[{ "subnet": "10.0.0.0/8" }]])), 2, &["runtimeConfig.ipRanges", "\"capabilities\""]);
    check(caps("dns", json!({ "servers": ["192.0.2.1"] })), 2, &["runtimeConfig.dns"]);
    check(json!({ "ipam": { "type": "host-local" } }), 2, &["ipam = {\"type\":\"host-local\"}", "podCIDRs"]);
    check(json!({ "ipMasq": true }), 2, &["ipMasq = true"]);
    check(
        json!({ "routes": [{ "dst": "10.0.0.0/8", "gw": "10.0.0.1" }] }),
        2,
        &["\"gw\":\"10.0.0.1\"", "only \"dst\""],
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(json!({ "name": null }), 7, &["the network has no name"]);
    check(json!({ "name": "../x" }), 7, &["\"../x\" is no network name"]);
    check(json!({ "podCIDRs": [] }), 7, &["podCIDRs is missing or empty"]);
    check(json!({ "podCIDRs": "10.1.0.0/24" }), 7, &["podCIDRs: invalid type"]);
    check(json!({ "podCIDRs": ["10.1.0.7/24"] }), 7, &["10.1.0.7/24", "write 10.1.0.0/24"]);
    check(json!({ "podCIDRs": ["10.1.0.0/31"] }), 7, &["10.1.0.0/31 has no address to give out"]);
    check(json!({ "podCIDRs": ["10.1.0.0/16", "10.1.2.0/24"] }), 7, &["10.1.0.0/16 and 10.1.2.0/24 overlap"]);
    check(json!({ "mtu": 40 }), 7, &["mtu 40 is not between 1280 and 65535"]);
    check(json!({ "mtu": -1 }), 7, &["mtu: invalid value"]);
    check(json!({ "dataDir": "leases" }), 7, &["dataDir leases is not absolute"]);
    check(json!({ "dns": { "nameservers": ["ns1"] } }), 7, &["dns: invalid IP address"]);
    check(json!({ "podCIDRs": ["10.1.0.0/24"], "routes": [{ "dst": "::/0" }] }), 7, &["::/0 is of a family"]);
    check(json!({ "prevResult": [] }), 7, &["prevResult: invalid type"]);
}

#[test]
fn the_environment_by_the_names_of_its_variables() {
    let node = Node::new(&BOTH);
    let c = Container::new("env");
    let (path, conf) = (c.path(), node.conf(&Value::Null).to_string());
    let check = |variable: &str, value: &str, words: &[&str]| {
        let mut env = env_of("ADD", &c, "eth0", &path).to_vec();
        env.retain(|(name, _)| *name != variable);
        env.push((variable, value));
        let called = node.run(&env, &conf);
        called.failure(4, words);
        called.failure(4, &[variable]);
    };
    check("CNI_COMMAND", "", &["not set", "ADD, DEL, CHECK, GC, STATUS, VERSION"]);
    check("CNI_COMMAND", "add", &["\"add\" is none of"]);
    check("CNI_CONTAINERID", "", &["not set"]);
    check("CNI_CONTAINERID", "-x", &["starts with a letter or digit"]);
    check("CNI_CONTAINERID", "a/b", &["\"a/b\""]);
    check("CNI_IFNAME", "", &["not set"]);
    check("CNI_IFNAME", "sixteen-bytes-if", &["longer than 15 bytes"]);
    check("CNI_IFNAME", "a b", &["white space"]);
    check("CNI_IFNAME", "eth%d", &["'%'"]);
    check("CNI_IFNAME", "lo", &["loopback"]);
    check("CNI_NETNS", "", &["not set", "path of a network namespace"]);
    check("CNI_ARGS", "IP", &["not KEY=VALUE"]);
    check("CNI_ARGS", "IP=x", &["no address"]);
    node.expect_clean();
}

#[test]
fn input_that_is_no_configuration() {
    let node = Node::new(&BOTH);
    let c = Container::new("input");
    for input in ["", "{", "[]", "nonsense"] {
        let called = node.run(&env_of("ADD", &c, "eth0", &c.path()), input);
        called.failure(6, &["the network configuration cannot be read", "one JSON object"]);
        assert_eq!(called.json["cniVersion"], "1.1.0");
    }
    node.run(&[("CNI_COMMAND", "ADD")], &node.conf(&Value::Null).to_string()).failure(4, &["CNI_CONTAINERID"]);
}

#[test]
fn version_answers_with_the_callers_version_and_ours() {
    let node = Node::new(&BOTH);
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (input, version) in
        [("{\"cniVersion\":\"1.0.0\"}", "1.0.0"), ("", "1.1.0"), ("{\"cniVersion\":\"9.0.0\"}", "9.0.0")]
    {
        let answer = node.run(&[("CNI_COMMAND", "VERSION")], input).success();
        assert_eq!(answer, json!({ "cniVersion": version, "supportedVersions": supported }), "{input}");
    }
    let called = node.run(&[], "");
    called.failure(4, &["CNI_COMMAND"]);
    assert!(called.stderr.contains("a CNI plugin") && called.stderr.contains("1.1.0"), "{called:?}");
}

#[test]
fn commands_that_an_older_version_lacks() {
    let node = Node::new(&BOTH);
    let c = Container::new("old");
    let old = |version: &str| json!({ "cniVersion": version });
    node.call("CHECK", &c, "eth0", &old("0.3.1")).failure(1, &["0.3.1 has no CHECK", "0.4.0 or newer"]);
    node.ask("GC", &old("1.0.0")).failure(1, &["1.0.0 has no GC"]);
    node.ask("STATUS", &old("1.0.0")).failure(1, &["1.0.0 has no STATUS"]);
}
