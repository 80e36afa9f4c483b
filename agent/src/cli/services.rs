//! `orlop services`.

use super::args::{Format, ServicesArgs};
use super::client::Client;
use super::exit::CliError;
use super::output;
use super::quantity::age_or_unknown;
use super::streams::Streams;
use super::table::{Table, joined, or_none};
use crate::api::{BackendView, HostPortView, Request, Response, ServicePortView, ServiceView};
use jiff::Timestamp;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

/// Lists Services.
pub fn run(client: &Client, streams: &Streams, args: &ServicesArgs, now: Timestamp) -> Result<(), CliError> {
    let Response::Services(mut services) = client.ask(&Request::Services)? else { return Err(CliError::Unexpected) };
    let namespace = args.filter.namespace.as_deref();
    services.retain(|service| namespace.is_none_or(|only| service.namespace == only));
    let host_ports = host_ports(client, args)?;
    output::print(streams, args.output.output, &services, |services, out| {
        table(services, now, out)?;
        host_port_table(&host_ports, out)
    })?;
    if services.is_empty() {
        streams
            .note(&namespace.map_or_else(|| "No services.".into(), |only| format!("No services in namespace {only}.")));
    }
    Ok(())
}

/// Host ports are not Services: they are shown to people, and with their pods.
fn host_ports(client: &Client, args: &ServicesArgs) -> Result<Vec<HostPortView>, CliError> {
    if args.output.output != Format::Table {
        return Ok(Vec::new());
    }
    let Response::HostPorts(mut ports) = client.ask(&Request::HostPorts)? else { return Err(CliError::Unexpected) };
    let namespace = args.filter.namespace.as_deref();
    ports.retain(|port| namespace.is_none_or(|only| port.pod.split('/').next() == Some(only)));
    Ok(ports)
}

/// Ports of the node that lead to pods; nothing when there are none.
pub fn host_port_table(ports: &[HostPortView], out: &mut dyn Write) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["HOST PORT", "POD", "BACKEND", "STATE"]);
    for port in ports {
        let state = port.taken_by.as_ref().map_or("active".to_owned(), |owner| format!("taken by {owner}"));
        table.row([port.address.clone(), port.pod.clone(), port.target.clone(), state]);
    }
    table.write(out, "")
}

/// One row a backend of each frontend, every row complete so that it can be
/// searched; a frontend without backends has one row that says so.
pub fn table(services: &[ServiceView], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let columns =
        ["NAMESPACE", "NAME", "TYPE", "FRONTEND", "NODE PORT", "EXTERNAL", "POLICY", "BACKEND", "STATE", "POD", "AGE"];
    let mut table = Table::new(&columns);
    for service in services {
        let mut add = |frontend: String, node_port: Option<u16>, backend: Option<&BackendView>| {
            table.row([
                service.namespace.clone(),
                service.name.clone(),
                service.kind.clone(),
                frontend,
                or_none(node_port.map(|port| port.to_string())),
                joined(&external(service)),
                joined(&policies(service)),
                or_none(backend.map(|backend| SocketAddr::new(backend.addr, backend.port).to_string())),
                or_none(backend.map(|backend| backend.state.clone())),
                or_none(backend.and_then(|backend| backend.pod.clone())),
                age_or_unknown(now, service.created),
            ]);
        };
        if service.ports.is_empty() {
            add("<none>".into(), None, None);
        }
        for port in &service.ports {
            for ip in frontends(service) {
                let frontend = frontend(ip, port);
                let mut backends = port
                    .backends
                    .iter()
                    .filter(|backend| ip.is_none_or(|ip| ip.is_ipv4() == backend.addr.is_ipv4()))
                    .peekable();
                if backends.peek().is_none() {
                    add(frontend.clone(), port.node_port, None);
                }
                backends.for_each(|backend| add(frontend.clone(), port.node_port, Some(backend)));
            }
        }
    }
    table.write(out, "")
}

/// Where it is reached from outside besides its node ports.
fn external(service: &ServiceView) -> Vec<IpAddr> {
    service.load_balancer_ips.iter().chain(&service.external_ips).copied().collect()
}

/// What is not as usual about who is led where.
fn policies(service: &ServiceView) -> Vec<String> {
    let words = [
        service.external_local.then(|| "external=Local".to_owned()),
        service.internal_local.then(|| "internal=Local".to_owned()),
        service.session_affinity_s.map(|seconds| format!("affinity={seconds}s")),
        (!service.source_ranges.is_empty()).then(|| format!("from={}", service.source_ranges.join("+"))),
        service.health_check_node_port.map(|port| format!("health={port}")),
        service.other_proxy.then(|| "other-proxy".to_owned()),
    ];
    words.into_iter().flatten().collect()
}

/// A headless Service has one frontend without an address.
fn frontends(service: &ServiceView) -> Vec<Option<IpAddr>> {
    match service.cluster_ips.as_slice() {
        [] => vec![None],
        ips => ips.iter().copied().map(Some).collect(),
    }
}

fn frontend(ip: Option<IpAddr>, port: &ServicePortView) -> String {
    let addr = ip.map_or_else(|| format!("None:{}", port.port), |ip| SocketAddr::new(ip, port.port).to_string());
    match &port.name {
        Some(name) => format!("{addr}/{} ({name})", port.protocol),
        None => format!("{addr}/{}", port.protocol),
    }
}
