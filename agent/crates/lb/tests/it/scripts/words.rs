//! Services, pods and host ports of manifests from words of a script.

use orlop_lb::{HostPort, HostPorts, NamedPort, PodEndpoint, Service, ServicePort, ServiceType, TargetPort};
use orlop_model::{PodKey, PodUid, Protocol, ServiceKey};
use std::collections::BTreeMap;

pub fn service(name: &str, words: &[&str]) -> Service {
    let mut service = Service {
        key: ServiceKey::new("default", name).unwrap(),
        created: None,
        kind: ServiceType::ClusterIP,
        headless: false,
        cluster_ips: Vec::new(),
        families: Vec::new(),
        family_policy: None,
        selector: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        publish_not_ready: false,
        ports: Vec::new(),
        external_name: None,
        other_proxy: false,
        more: None,
    };
    for word in words {
        match *word {
            "headless" => service.headless = true,
            "publish-not-ready" => service.publish_not_ready = true,
            app if app.starts_with("select=") => drop(service.selector.insert("app".into(), app[7..].into())),
            // The address is assigned.
            "-" => {}
            ips if service.cluster_ips.is_empty()
                && !service.headless
                && ips.contains(['.', ':'])
                && !ips.contains("->") =>
            {
                service.cluster_ips = ips.split(',').map(|ip| ip.parse().expect(ips)).collect();
            }
            port => service.ports.push(service_port(port)),
        }
    }
    if service.ports.iter().any(|port| port.node_port.is_some()) {
        service.kind = ServiceType::NodePort;
    }
    service
}

fn service_port(text: &str) -> ServicePort {
    let (text, node_port) = text.split_once('@').map_or((text, None), |(text, node)| (text, Some(node)));
    let (text, udp) = text.strip_suffix("/udp").map_or((text, false), |text| (text, true));
    let (text, target) = text.split_once("->").map_or((text, None), |(text, target)| (text, Some(target)));
    let (name, port) = text.split_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().expect("a port");
    let target = target.map(|target| match target.parse() {
        Ok(number) => TargetPort::Number(number),
        Err(_) => TargetPort::Name(target.to_owned()),
    });
    ServicePort {
        name: name.to_owned(),
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        port,
        target_port: target.unwrap_or(TargetPort::Number(port)),
        node_port: node_port.map(|node| node.parse().expect("a node port")),
    }
}

pub fn pod(name: &str, ips: &str, words: &[&str]) -> PodEndpoint {
    let mut app = name.rsplit_once('-').map_or(name, |(app, _)| app);
    let (mut ready, mut terminating, mut ports) = (true, false, Vec::new());
    for word in words {
        match (*word, word.split_once('=')) {
            ("ready", _) => {}
            ("not-ready", _) => ready = false,
            ("terminating", _) => terminating = true,
            (_, Some((name, port))) => {
                let (name, port) = (name.to_owned(), port.parse().expect("a port"));
                ports.push(NamedPort { name, port, protocol: Protocol::Tcp });
            }
            (other, None) => app = other,
        }
    }
    PodEndpoint {
        key: PodKey::new("default", name).unwrap(),
        ips: ips.split(',').map(|ip| ip.parse().expect(ips)).collect(),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        ready,
        serving: ready,
        terminating,
        ports,
    }
}

pub fn uid(pod: &str) -> PodUid {
    PodUid::new(format!("uid-{pod}")).unwrap()
}

pub fn host_ports(pod: &PodEndpoint, words: &[&str]) -> HostPorts {
    let ports = words.iter().map(|word| {
        let (word, protocol) = match word.split_once('/') {
            Some((word, "udp")) => (word, Protocol::Udp),
            Some((word, "sctp")) => (word, Protocol::Sctp),
            _ => (*word, Protocol::Tcp),
        };
        let (host_ip, word) = word.split_once('=').map_or((None, word), |(ip, word)| (Some(ip), word));
        let (port, target) = word.split_once("->").expect("PORT->TARGET");
        let number = |text: &str| text.parse().expect("a port");
        let host_ip = host_ip.map(|ip| ip.parse().expect("an address"));
        HostPort { host_ip, port: number(port), protocol, target: number(target) }
    });
    let (uid, ips) = (uid(pod.key.name()), pod.ips.clone());
    HostPorts { uid, pod: pod.key.clone(), created: None, ips, ports: ports.collect() }
}
