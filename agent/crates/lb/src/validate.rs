//! From a manifest to a Service, with the API server's checks and words.

mod traffic;

use crate::lean::{LABEL_HEADLESS, LABEL_PROXY_NAME};
use crate::manifest::{IntOrString, Port, ServiceManifest, Spec};
use crate::{
    FieldError, FieldProblem, IpFamily, IpFamilyPolicy, LbError, Service, ServicePort, ServiceType, TargetPort,
};
use orlop_model::{Protocol, ServiceKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// A Service that holds, and what of it is not acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validated {
    /// The Service.
    pub service: Service,
    /// One sentence for each field that is known but not acted on.
    pub warnings: Vec<String>,
}

#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, problem: FieldProblem) {
        self.0.push(FieldError { field: field.into(), problem });
    }
    fn invalid(&mut self, field: impl Into<String>, value: impl serde_text::Text, detail: impl Into<String>) {
        self.add(field, FieldProblem::Invalid { value: value.text(), detail: detail.into() });
    }
    fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &'static [&'static str]) {
        self.add(field, FieldProblem::Unsupported { value: format!("{value:?}"), supported });
    }
}

/// Values as JSON shows them.
mod serde_text {
    pub(super) trait Text {
        fn text(&self) -> String;
    }
    impl Text for i64 {
        fn text(&self) -> String {
            self.to_string()
        }
    }
    impl Text for &str {
        fn text(&self) -> String {
            format!("{self:?}")
        }
    }
}

impl ServiceManifest {
    /// `namespace/name` as written, for messages about a manifest that does not hold.
    #[must_use]
    pub fn object(&self) -> String {
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        format!("{namespace}/{}", self.metadata.name.as_deref().unwrap_or(""))
    }

    /// Checks every field and fills in the defaults. A missing namespace is
    /// `default`.
    ///
    /// # Errors
    /// [`LbError::Invalid`] with all the fields that are wrong.
    pub fn validate(self) -> Result<Validated, LbError> {
        let mut errors = Errors::default();
        for (field, value, wanted) in [("apiVersion", &self.api_version, "v1"), ("kind", &self.kind, "Service")] {
            if let Some(value) = value.as_deref().filter(|value| *value != wanted) {
                errors.invalid(field, value, format!("must be {wanted:?}"));
            }
        }
        let key = self.key(&mut errors);
        let spec = &self.spec;
        let kind = kind(spec, &mut errors);
        let (headless, cluster_ips) = addresses(spec, kind, &mut errors);
        let (families, family_policy) = families(spec, &mut errors);
        let ports = ports(spec, kind, headless, &mut errors);
        let more = traffic::more(&self, kind, &mut errors);
        if kind == ServiceType::ExternalName && spec.external_name.as_deref().unwrap_or("").is_empty() {
            errors.add("spec.externalName", FieldProblem::Required(""));
        }
        match (key, errors.0.is_empty()) {
            (Some(key), true) => {
                let service = Service {
                    key,
                    created: self.metadata.creation_timestamp,
                    kind,
                    headless,
                    cluster_ips,
                    families,
                    family_policy,
                    selector: spec.selector.clone().unwrap_or_default(),
                    publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
                    ports,
                    external_name: spec.external_name.clone(),
                    other_proxy: self.is_anothers(),
                    more,
                };
                let warnings = warnings(spec, &service);
                Ok(Validated { service, warnings })
            }
            _ => Err(LbError::Invalid { object: self.object(), errors: errors.0 }),
        }
    }

    /// A label says that proxies are to leave it alone, or which one serves it.
    fn is_anothers(&self) -> bool {
        let mut labels = self.metadata.labels.iter().flatten();
        labels.any(|(label, _)| label == LABEL_PROXY_NAME || label == LABEL_HEADLESS)
    }

    fn key(&self, errors: &mut Errors) -> Option<ServiceKey> {
        let Some(name) = self.metadata.name.as_deref().filter(|name| !name.is_empty()) else {
            errors.add("metadata.name", FieldProblem::Required("name or generateName is required"));
            return None;
        };
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        match ServiceKey::new(namespace, name) {
            Ok(key) => Some(key),
            Err(error) => {
                let field = if error.kind == "namespace" { "metadata.namespace" } else { "metadata.name" };
                errors.invalid(field, error.text.as_str(), error.problem);
                None
            }
        }
    }
}

fn kind(spec: &Spec, errors: &mut Errors) -> ServiceType {
    match spec.r#type.as_deref() {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIP,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            errors.unsupported("spec.type", other, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
            ServiceType::ClusterIP
        }
    }
}

/// Whether it is headless, and its explicit addresses.
fn addresses(spec: &Spec, kind: ServiceType, errors: &mut Errors) -> (bool, Vec<IpAddr>) {
    let first = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    if let (Some(first), Some(listed)) = (first, all.first())
        && first != listed
    {
        errors.invalid("spec.clusterIPs[0]", listed.as_str(), "must match `clusterIP`");
    }
    let given: Vec<(String, &str)> = if all.is_empty() {
        first.map(|ip| ("spec.clusterIP".to_owned(), ip)).into_iter().collect()
    } else {
        (0..).zip(all).map(|(n, ip): (usize, _)| (format!("spec.clusterIPs[{n}]"), ip.as_str())).collect()
    };
    if kind == ServiceType::ExternalName {
        if let Some((field, _)) = given.first() {
            errors.add(field, FieldProblem::Forbidden("may not be set when `type` is 'ExternalName'"));
        }
        return (false, Vec::new());
    }
    if given.iter().any(|(_, ip)| *ip == "None") {
        if kind != ServiceType::ClusterIP {
            errors.invalid(&*given[0].0, "None", format!("may not be set to 'None' for {kind} services"));
        }
        if given.len() > 1 {
            errors.invalid("spec.clusterIPs", "None", "'None' must be the first and only value");
        }
        return (true, Vec::new());
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for (field, text) in given {
        match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Err(_) => errors.invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            Ok(ip) if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() => {
                errors.invalid(field, text, "may not be unspecified, loopback or multicast");
            }
            Ok(ip) if ips.iter().any(|other| IpFamily::of(*other) == IpFamily::of(ip)) => {
                errors.invalid(field, text, "may hold no more than one value for each IP family");
            }
            Ok(ip) => ips.push(ip),
        }
    }
    (false, ips)
}

fn families(spec: &Spec, errors: &mut Errors) -> (Vec<IpFamily>, Option<IpFamilyPolicy>) {
    let mut families = Vec::new();
    for (n, text) in spec.ip_families.iter().flatten().enumerate() {
        let field = format!("spec.ipFamilies[{n}]");
        let family = match text.as_str() {
            "IPv4" => IpFamily::IPv4,
            "IPv6" => IpFamily::IPv6,
            other => {
                errors.unsupported(field, other, &["IPv4", "IPv6"]);
                continue;
            }
        };
        if families.contains(&family) {
            errors.add(field, FieldProblem::Duplicate(format!("{text:?}")));
        } else {
            families.push(family);
        }
    }
    let policy = match spec.ip_family_policy.as_deref() {
        None => None,
        Some("SingleStack") => Some(IpFamilyPolicy::SingleStack),
        Some("PreferDualStack") => Some(IpFamilyPolicy::PreferDualStack),
        Some("RequireDualStack") => Some(IpFamilyPolicy::RequireDualStack),
        Some(other) => {
            let supported = &["PreferDualStack", "RequireDualStack", "SingleStack"];
            errors.unsupported("spec.ipFamilyPolicy", other, supported);
            None
        }
    };
    (families, policy)
}

fn ports(spec: &Spec, kind: ServiceType, headless: bool, errors: &mut Errors) -> Vec<ServicePort> {
    let given = spec.ports.as_deref().unwrap_or_default();
    if given.is_empty() && !headless && kind != ServiceType::ExternalName {
        errors.add("spec.ports", FieldProblem::Required(""));
    }
    let (mut names, mut numbers, mut nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut ports = Vec::new();
    for (n, port) in given.iter().enumerate() {
        let field = format!("spec.ports[{n}]");
        let name = port.name.clone().unwrap_or_default();
        if name.is_empty() && given.len() > 1 {
            errors.add(format!("{field}.name"), FieldProblem::Required(""));
        } else if !name.is_empty() {
            if let Err(error) = orlop_model::ContainerName::new(&*name) {
                errors.invalid(format!("{field}.name"), &*name, error.problem);
            } else if !names.insert(name.clone()) {
                errors.add(format!("{field}.name"), FieldProblem::Duplicate(format!("{name:?}")));
            }
        }
        let Some(one) = port_of(port, &field, name, kind, errors) else { continue };
        if !numbers.insert((one.port, one.protocol)) {
            errors.add(&*field, FieldProblem::Duplicate(format!("{}/{}", one.port, one.protocol)));
        }
        if let Some(node_port) = one.node_port
            && !nodes.insert((node_port, one.protocol))
        {
            errors.add(format!("{field}.nodePort"), FieldProblem::Duplicate(node_port.to_string()));
        }
        ports.push(one);
    }
    ports
}

fn port_of(port: &Port, field: &str, name: String, kind: ServiceType, errors: &mut Errors) -> Option<ServicePort> {
    let protocol = match port.protocol.as_deref() {
        None | Some("" | "TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(other) => {
            errors.unsupported(format!("{field}.protocol"), other, &["SCTP", "TCP", "UDP"]);
            Protocol::Tcp
        }
    };
    let number = match port.port {
        None => {
            errors.add(format!("{field}.port"), FieldProblem::Required(""));
            None
        }
        Some(value) => number(value, &format!("{field}.port"), errors),
    };
    let target_field = format!("{field}.targetPort");
    let target_port = match &port.target_port {
        None | Some(IntOrString::Int(0)) => number.map(TargetPort::Number),
        Some(IntOrString::String(text)) if text.is_empty() => number.map(TargetPort::Number),
        Some(IntOrString::Int(value)) => self::number(*value, &target_field, errors).map(TargetPort::Number),
        Some(IntOrString::String(text)) => {
            if let Some(detail) = port_name_problem(text) {
                errors.invalid(target_field, text.as_str(), detail);
            }
            Some(TargetPort::Name(text.clone()))
        }
    };
    let node_field = format!("{field}.nodePort");
    let node_port = match port.node_port.filter(|value| *value != 0) {
        None => None,
        Some(_) if matches!(kind, ServiceType::ClusterIP | ServiceType::ExternalName) => {
            let detail = match kind {
                ServiceType::ExternalName => "may not be used when `type` is 'ExternalName'",
                _ => "may not be used when `type` is 'ClusterIP'",
            };
            errors.add(node_field, FieldProblem::Forbidden(detail));
            None
        }
        Some(value) => self::number(value, &node_field, errors),
    };
    Some(ServicePort { name, protocol, port: number?, target_port: target_port?, node_port })
}

fn number(value: i64, field: &str, errors: &mut Errors) -> Option<u16> {
    let number = u16::try_from(value).ok().filter(|number| *number != 0);
    if number.is_none() {
        errors.invalid(field, value, PORT_RANGE);
    }
    number
}

/// RFC 6335 5.1, as the API server checks a container port's name.
fn port_name_problem(text: &str) -> Option<&'static str> {
    let fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if text.len() > 15 {
        Some("must be no more than 15 characters")
    } else if !text.bytes().all(fine) {
        Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    } else if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        Some("must contain at least one letter (a-z)")
    } else if text.contains("--") {
        Some("must not contain consecutive hyphens")
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("must not begin or end with a hyphen")
    } else {
        None
    }
}

/// What only a controller outside could do. Nodes do not look at it in a cluster
/// either; without one nobody else does.
fn warnings(spec: &Spec, service: &Service) -> Vec<String> {
    let balancer = service.kind == ServiceType::LoadBalancer;
    let known = [
        (
            "spec.loadBalancerIP",
            spec.load_balancer_ip.is_some(),
            "give the address as status.loadBalancer.ingress[0].ip",
        ),
        ("spec.loadBalancerClass", spec.load_balancer_class.is_some(), "no load balancer is made"),
        (
            "spec.type LoadBalancer",
            balancer && service.more().load_balancer_ips.is_empty(),
            "no load balancer is made; an address that one has can be given as status.loadBalancer.ingress[0].ip",
        ),
    ];
    let given = known.into_iter().filter(|(_, given, _)| *given);
    given.map(|(what, _, so)| format!("{what} is for a controller that is not here: {so}")).collect()
}
