//! Objects of an API server from words of a script.

use orlop_lb::{LeanEndpointSlice, LeanService};
use serde_json::{Value, json};

/// The name of the scripts' node; endpoints are on it with `here`.
pub const NODE: &str = "here";

/// `IP[,IP] [NAME:]PORT[/udp][@NODEPORT]... [headless] [publish-not-ready] [proxy=NAME]`
pub fn service(name: &str, words: &[&str]) -> LeanService {
    let (mut ips, mut ports, mut labels, mut publish) = (Vec::new(), Vec::new(), json!({}), false);
    for word in words {
        match *word {
            "headless" => ips = vec!["None"],
            "publish-not-ready" => publish = true,
            proxy if proxy.starts_with("proxy=") => {
                labels["service.kubernetes.io/service-proxy-name"] = json!(proxy[6..])
            }
            all if ips.is_empty() => ips = all.split(',').collect(),
            one => ports.push(port(one)),
        }
    }
    let node_port = ports.iter().any(|port| port.get("nodePort").is_some());
    object(json!({
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"clusterIPs": ips, "ports": ports, "type": if node_port { "NodePort" } else { "ClusterIP" },
                 "publishNotReadyAddresses": publish, "selector": {"app": name}},
    }))
}

/// `SERVICE [NAME:]PORT[/udp]... IP[,POD][,here][,not-ready][,terminating][,not-serving]... [headless] [fqdn]`
pub fn slice(name: &str, of: &str, words: &[&str]) -> LeanEndpointSlice {
    let (mut ports, mut endpoints) = (Vec::new(), Vec::new());
    let (mut labels, mut kind) = (json!({"kubernetes.io/service-name": of}), "IPv4");
    for word in words {
        match *word {
            "headless" => labels["service.kubernetes.io/headless"] = json!(""),
            "fqdn" => kind = "FQDN",
            one if one.contains('.') || one.contains("::") => {
                if one.contains("::") {
                    kind = "IPv6";
                }
                endpoints.push(endpoint(one));
            }
            one => ports.push(port(one)),
        }
    }
    object(json!({
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": kind, "ports": ports, "endpoints": endpoints,
    }))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn port(text: &str) -> Value {
    let (text, node_port) = text.split_once('@').map_or((text, None), |(text, node)| (text, Some(node)));
    let (text, udp) = text.strip_suffix("/udp").map_or((text, false), |text| (text, true));
    let (name, number) = text.split_once(':').unwrap_or(("", text));
    let number: u16 = number.parse().expect("a port");
    let mut port = json!({"name": name, "port": number, "protocol": if udp { "UDP" } else { "TCP" }});
    if let Some(node_port) = node_port {
        port["nodePort"] = json!(node_port.parse::<u16>().expect("a node port"));
    }
    port
}

fn endpoint(text: &str) -> Value {
    let mut words = text.split(',');
    let ip = words.next().expect("an address");
    let (mut ready, mut serving, mut terminating) = (true, true, false);
    let mut endpoint = json!({"addresses": [ip]});
    for word in words {
        match word {
            "here" => endpoint["nodeName"] = json!(NODE),
            "not-ready" => (ready, serving) = (false, false),
            "not-serving" => serving = false,
            "terminating" => (ready, terminating) = (false, true),
            pod => endpoint["targetRef"] = json!({"kind": "Pod", "name": pod}),
        }
    }
    endpoint["conditions"] = json!({"ready": ready, "serving": serving, "terminating": terminating});
    endpoint
}
