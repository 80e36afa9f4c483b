//! Probes: one handler each, ports resolved, the API's defaults.

use super::port::PORT_RULE;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{HTTPGetAction, Probe as ApiProbe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use orlop_model::{ContainerPort, HttpScheme, Probe, ProbeAction, ProbeKind};

/// One probe of a container; `None` without one or when it is in error.
pub(super) fn probe(
    path: &Path,
    api: Option<&ApiProbe>,
    kind: ProbeKind,
    ports: &[ContainerPort],
    out: &mut Findings,
) -> Option<Probe> {
    let api = api?;
    let action = action(path, api, ports, out);
    let mut number = |field: &str, value: Option<i32>, default: u32| -> u32 {
        match value {
            None | Some(0) => default,
            Some(value) => u32::try_from(value).unwrap_or_else(|_| {
                out.invalid(&path.child(field), value, "must be greater than or equal to 0");
                default
            }),
        }
    };
    let initial_delay_secs = number("initialDelaySeconds", api.initial_delay_seconds, 0);
    let timeout_secs = number("timeoutSeconds", api.timeout_seconds, 1);
    let period_secs = number("periodSeconds", api.period_seconds, 10);
    let success_threshold = number("successThreshold", api.success_threshold, 1);
    let failure_threshold = number("failureThreshold", api.failure_threshold, 3);
    let single = match kind {
        ProbeKind::Startup | ProbeKind::Liveness => true,
        ProbeKind::Readiness => false,
    };
    if single && success_threshold != 1 {
        out.invalid(&path.child("successThreshold"), success_threshold, "must be 1");
    }
    let termination_grace_secs = api.termination_grace_period_seconds.and_then(|secs| {
        let path = path.child("terminationGracePeriodSeconds");
        match u64::try_from(secs) {
            _ if !single => out.invalid(&path, secs, "must not be set for readinessProbes"),
            Ok(0) | Err(_) => out.invalid(&path, secs, "must be greater than 0"),
            Ok(secs) => return Some(secs),
        }
        None
    });
    Some(Probe {
        action: action?,
        initial_delay_secs,
        period_secs,
        timeout_secs,
        success_threshold,
        failure_threshold,
        termination_grace_secs,
    })
}

fn action(path: &Path, api: &ApiProbe, ports: &[ContainerPort], out: &mut Findings) -> Option<ProbeAction> {
    let given = [
        ("exec", api.exec.is_some()),
        ("httpGet", api.http_get.is_some()),
        ("tcpSocket", api.tcp_socket.is_some()),
        ("grpc", api.grpc.is_some()),
    ];
    let mut handlers = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
    if handlers.next().is_none() {
        out.required(path, "must specify a handler type");
        return None;
    }
    for extra in handlers {
        out.forbidden(&path.child(extra), "may not specify more than 1 handler type");
    }
    if let Some(exec) = &api.exec {
        let command = exec.command.clone().unwrap_or_default();
        if command.is_empty() {
            out.required(&path.child("exec").child("command"), "");
            return None;
        }
        return Some(ProbeAction::Exec { command });
    }
    if let Some(get) = &api.http_get {
        return http_get(&path.child("httpGet"), get, ports, out);
    }
    if let Some(socket) = &api.tcp_socket {
        return tcp_socket(&path.child("tcpSocket"), socket, ports, out);
    }
    out.not_yet(&path.child("grpc"));
    None
}

fn http_get(path: &Path, get: &HTTPGetAction, ports: &[ContainerPort], out: &mut Findings) -> Option<ProbeAction> {
    let port = port(&path.child("port"), &get.port, ports, out);
    let scheme = match get.scheme.as_deref() {
        None | Some("" | "HTTP") => Some(HttpScheme::Http),
        Some("HTTPS") => Some(HttpScheme::Https),
        Some(other) => {
            out.unsupported(&path.child("scheme"), other, &["HTTP", "HTTPS"]);
            None
        }
    };
    let mut headers = Vec::new();
    for (index, header) in get.http_headers.iter().flatten().enumerate() {
        let token = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if header.name.is_empty() || !header.name.bytes().all(token) {
            let path = path.child("httpHeaders").index(index).child("name");
            out.invalid(&path, &header.name, "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')");
        }
        headers.push((header.name.clone(), header.value.clone()));
    }
    let given = get.path.as_deref().unwrap_or_default();
    let slash = if given.starts_with('/') { "" } else { "/" };
    Some(ProbeAction::HttpGet {
        scheme: scheme?,
        host: get.host.clone().filter(|h| !h.is_empty()),
        port: port?,
        path: format!("{slash}{given}"),
        headers,
    })
}

fn tcp_socket(path: &Path, api: &TCPSocketAction, ports: &[ContainerPort], out: &mut Findings) -> Option<ProbeAction> {
    let port = port(&path.child("port"), &api.port, ports, out)?;
    Some(ProbeAction::TcpSocket { host: api.host.clone().filter(|h| !h.is_empty()), port })
}

fn port(path: &Path, api: &IntOrString, ports: &[ContainerPort], out: &mut Findings) -> Option<u16> {
    match api {
        IntOrString::Int(number) => match u16::try_from(*number) {
            Ok(number @ 1..) => Some(number),
            Ok(0) | Err(_) => {
                out.invalid(path, number, PORT_RULE);
                None
            }
        },
        IntOrString::String(name) => {
            let found = ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            // The kubelet also takes a number written as a text (FindPortByName fails, then Atoi).
            let found = found.or_else(|| name.parse().ok().filter(|&port: &u16| port > 0));
            if found.is_none() {
                out.invalid(path, name, "no port of this container has that name");
            }
            found
        }
    }
}
