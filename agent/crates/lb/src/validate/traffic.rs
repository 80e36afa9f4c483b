//! Fields that say who is let in, from where, and to which endpoints.

use super::{Errors, PORT_RANGE};
use crate::lean::AFFINITY_S;
use crate::manifest::{ServiceManifest, Spec};
use crate::{FieldProblem, LoadBalancerIp, ServiceMore, ServiceType, TrafficDistribution};
use ipnet::IpNet;
use std::net::IpAddr;

const IP_WORDS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const ONLY_LOAD_BALANCER: FieldProblem = FieldProblem::Forbidden("may only be used when `type` is 'LoadBalancer'");
/// `MaxClientIPServiceAffinitySeconds`: a day.
const AFFINITY_S_MAX: i64 = 86_400;

/// What of the manifest few Services have; `None` when it has nothing of it.
pub(super) fn more(manifest: &ServiceManifest, kind: ServiceType, errors: &mut Errors) -> Option<Box<ServiceMore>> {
    let spec = &manifest.spec;
    let balancer = kind == ServiceType::LoadBalancer;
    let external_ips = external_ips(spec, errors);
    let open = match kind {
        ServiceType::NodePort | ServiceType::LoadBalancer => true,
        ServiceType::ClusterIP => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        ServiceType::ExternalName => false,
    };
    let external_local = external_policy(spec, open, errors);
    if !balancer {
        if spec.allocate_load_balancer_node_ports.is_some() {
            errors.add("spec.allocateLoadBalancerNodePorts", ONLY_LOAD_BALANCER);
        }
        if spec.load_balancer_class.is_some() {
            errors.add("spec.loadBalancerClass", ONLY_LOAD_BALANCER);
        }
    }
    let more = ServiceMore {
        external_ips,
        load_balancer_ips: load_balancer_ips(manifest, balancer, errors),
        source_ranges: source_ranges(spec, balancer, errors),
        affinity_s: affinity(spec, errors),
        external_local,
        internal_local: policy("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref(), errors),
        health_check_node_port: health_check_node_port(spec, balancer && external_local, errors),
        distribution: distribution(spec, errors),
        no_node_ports: balancer && spec.allocate_load_balancer_node_ports == Some(false),
    };
    (more != ServiceMore::default()).then(|| Box::new(more))
}

/// Whether the policy is `Local`.
fn policy(field: &str, value: Option<&str>, errors: &mut Errors) -> bool {
    match value {
        None | Some("Cluster") => false,
        Some("Local") => true,
        Some(other) => {
            errors.unsupported(field, other, &["Cluster", "Local"]);
            false
        }
    }
}

fn external_policy(spec: &Spec, open: bool, errors: &mut Errors) -> bool {
    let (field, value) = ("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref());
    let value = value.filter(|value| !value.is_empty());
    if let (false, Some(value)) = (open, value) {
        errors.invalid(field, value, "may only be set for externally-accessible services");
        return false;
    }
    policy(field, value, errors)
}

fn external_ips(spec: &Spec, errors: &mut Errors) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (n, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{n}]");
        let Ok(ip) = text.parse::<IpAddr>() else {
            errors.invalid(field, text.as_str(), IP_WORDS);
            continue;
        };
        match special(ip) {
            Some("unspecified") => errors.invalid(field, text.as_str(), format!("may not be unspecified ({text})")),
            Some(range) => errors.invalid(field, text.as_str(), format!("may not be in the {range}")),
            None => ips.push(ip.to_canonical()),
        }
    }
    ips
}

/// Addresses that the API server takes for no endpoint and no external address.
fn special(ip: IpAddr) -> Option<&'static str> {
    let (link_local, link_multicast) = match ip.to_canonical() {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        Some("unspecified")
    } else if ip.is_loopback() {
        Some("loopback range (127.0.0.0/8, ::1/128)")
    } else if link_local {
        Some("link-local range (169.254.0.0/16, fe80::/10)")
    } else if link_multicast {
        Some("link-local multicast range (224.0.0.0/24, ff02::/10)")
    } else {
        None
    }
}

fn load_balancer_ips(manifest: &ServiceManifest, balancer: bool, errors: &mut Errors) -> Vec<LoadBalancerIp> {
    let ingress = manifest.status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let mut ips = Vec::new();
    for (n, one) in ingress.enumerate() {
        if !balancer {
            let problem = FieldProblem::Forbidden("may only be used when `spec.type` is 'LoadBalancer'");
            errors.add("status.loadBalancer.ingress", problem);
            break;
        }
        let field = format!("status.loadBalancer.ingress[{n}]");
        let text = one.ip.as_deref().filter(|ip| !ip.is_empty());
        let proxy = match one.ip_mode.as_deref() {
            None | Some("VIP") => false,
            Some("Proxy") => true,
            Some(other) => {
                errors.unsupported(format!("{field}.ipMode"), other, &["Proxy", "VIP"]);
                false
            }
        };
        if text.is_none() && one.ip_mode.is_some() {
            let problem = FieldProblem::Forbidden("may not be specified when `ip` is not set");
            errors.add(format!("{field}.ipMode"), problem);
        }
        match text.map(|text| (text, text.parse::<IpAddr>())) {
            Some((text, Err(_))) => errors.invalid(format!("{field}.ip"), text, IP_WORDS),
            Some((_, Ok(ip))) => ips.push(LoadBalancerIp { ip: ip.to_canonical(), proxy }),
            None => {}
        }
    }
    ips
}

fn source_ranges(spec: &Spec, balancer: bool, errors: &mut Errors) -> Vec<IpNet> {
    // The API server's own spelling of the path.
    let field = "spec.LoadBalancerSourceRanges";
    let given = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !given.is_empty() && !balancer {
        errors.add(field, ONLY_LOAD_BALANCER);
    }
    let mut ranges = Vec::new();
    for (n, text) in given.iter().enumerate() {
        // Spaces around them are part of the API, by an accident of its history.
        match text.trim().parse::<IpNet>() {
            Ok(range) => ranges.push(range.trunc()),
            Err(_) => {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.invalid(format!("{field}[{n}]"), text.trim(), detail);
            }
        }
    }
    ranges
}

fn affinity(spec: &Spec, errors: &mut Errors) -> Option<u32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let Some(timeout) = config.and_then(|client| client.timeout_seconds) else { return Some(AFFINITY_S) };
            if !(1..=AFFINITY_S_MAX).contains(&timeout) {
                let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
                errors.invalid(field, timeout, format!("must be greater than 0 and less than {AFFINITY_S_MAX}"));
            }
            u32::try_from(timeout).ok()
        }
        Some(other) => {
            errors.unsupported("spec.sessionAffinity", other, &["ClientIP", "None"]);
            None
        }
    }
}

fn health_check_node_port(spec: &Spec, wanted: bool, errors: &mut Errors) -> Option<u16> {
    let (field, value) = ("spec.healthCheckNodePort", spec.health_check_node_port.filter(|port| *port != 0)?);
    if !wanted {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(field, value, detail);
        return None;
    }
    let port = u16::try_from(value).ok();
    if port.is_none() {
        errors.invalid(field, value, PORT_RANGE);
    }
    port
}

fn distribution(spec: &Spec, errors: &mut Errors) -> TrafficDistribution {
    match spec.traffic_distribution.as_deref() {
        None => TrafficDistribution::Any,
        Some("PreferClose" | "PreferSameZone") => TrafficDistribution::SameZone,
        Some("PreferSameNode") => TrafficDistribution::SameNode,
        Some(other) => {
            let supported = &["PreferClose", "PreferSameZone", "PreferSameNode"];
            errors.unsupported("spec.trafficDistribution", other, supported);
            TrafficDistribution::Any
        }
    }
}
