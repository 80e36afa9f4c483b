//! Objects of an API server from words of a script.

use orlop_lb::{LeanEndpointSlice, LeanService};
use serde_json::{Value, json};

/// The name of the scripts' node; endpoints are on it with `here`.
pub const NODE: &str = "here";

/// `IP[,IP] [NAME:]PORT[/udp|/sctp][@NODEPORT]... [headless] [publish-not-ready] [proxy=NAME] [type=TYPE]
/// [affinity=SECONDS] [external=IP,IP] [lb=IP,IP] [lb-proxy=IP] [ranges=CIDR,CIDR] [etp-local] [itp-local]
/// [health=PORT]`
pub fn service(name: &str, words: &[&str]) -> LeanService {
    let (mut ips, mut ports, mut labels, mut ingress) = (Vec::new(), Vec::new(), json!({}), Vec::new());
    let mut spec = json!({"selector": {"app": name}});
    for word in words {
        let (option, value) = word.split_once('=').unwrap_or((word, ""));
        match option {
            "headless" => ips = vec!["None"],
            "publish-not-ready" => spec["publishNotReadyAddresses"] = json!(true),
            "proxy" => labels["service.kubernetes.io/service-proxy-name"] = json!(value),
            "type" => spec["type"] = json!(value),
            "affinity" => {
                spec["sessionAffinity"] = json!("ClientIP");
                let timeout: u32 = value.parse().expect("seconds");
                spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": timeout}});
            }
            "external" => spec["externalIPs"] = value.split(',').collect(),
            "lb" => ingress.extend(value.split(',').map(|ip| json!({"ip": ip, "ipMode": "VIP"}))),
            "lb-proxy" => ingress.extend(value.split(',').map(|ip| json!({"ip": ip, "ipMode": "Proxy"}))),
            "ranges" => spec["loadBalancerSourceRanges"] = value.split(',').collect(),
            "etp-local" => spec["externalTrafficPolicy"] = json!("Local"),
            "itp-local" => spec["internalTrafficPolicy"] = json!("Local"),
            "health" => spec["healthCheckNodePort"] = json!(value.parse::<u16>().expect("a port")),
            all if ips.is_empty() => ips = all.split(',').collect(),
            one => ports.push(port(one)),
        }
    }
    if spec.get("type").is_none() {
        let node_port = ports.iter().any(|port| port.get("nodePort").is_some());
        let kind = if !ingress.is_empty() {
            "LoadBalancer"
        } else if node_port {
            "NodePort"
        } else {
            "ClusterIP"
        };
        spec["type"] = json!(kind);
    }
    (spec["clusterIPs"], spec["ports"]) = (json!(ips), json!(ports));
    object(json!({
        "metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": spec,
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
}

/// `SERVICE [NAME:]PORT[/udp|/sctp]... IP[,POD][,here][,not-ready][,terminating][,not-serving][,zone=A+B][,node=A+B]...
/// [headless] [fqdn]`
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
    let (text, protocol) = match text.split_once('/') {
        Some((text, protocol)) => (text, protocol.to_uppercase()),
        None => (text, "TCP".to_owned()),
    };
    let (name, number) = text.split_once(':').unwrap_or(("", text));
    let number: u16 = number.parse().expect("a port");
    let mut port = json!({"name": name, "port": number, "protocol": protocol});
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
    let hints = |names: &str| names.split('+').map(|name| json!({"name": name})).collect::<Vec<_>>();
    for word in words {
        match word {
            zones if zones.starts_with("zone=") => endpoint["hints"]["forZones"] = json!(hints(&zones[5..])),
            nodes if nodes.starts_with("node=") => endpoint["hints"]["forNodes"] = json!(hints(&nodes[5..])),
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
