//! `orlop describe`, laid out as `kubectl describe pod`.

use super::args::DescribeArgs;
use super::client::Client;
use super::exit::CliError;
use super::quantity::{age, micros};
use super::streams::Streams;
use super::table::{Table, or_none, printable};
use super::{event, output};
use crate::api::{ConditionView, ContainerView, HostPortView, PodDetail, PodView, Request, Response};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Where values of the outermost fields start.
const COLUMN: usize = 18;

/// Shows a pod.
pub fn run(client: &Client, streams: &Streams, args: &DescribeArgs, now: Timestamp) -> Result<(), CliError> {
    let request = Request::Pod { pod: args.pod.resolve()? };
    let Response::Pod(detail) = client.ask(&request)? else { return Err(CliError::Unexpected) };
    output::print(streams, args.output.output, &detail, |detail, out| text(detail, now, out))
}

/// All of it, outermost fields first.
pub fn text(detail: &PodDetail, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    identity(detail, now, out)?;
    let (init, main): (Vec<&ContainerView>, Vec<&ContainerView>) =
        detail.pod.containers.iter().partition(|container| container.init);
    if !init.is_empty() {
        containers("Init Containers", &init, now, out)?;
    }
    containers("Containers", &main, now, out)?;
    conditions(&detail.conditions, now, out)?;
    lines("Volumes", &detail.volumes, out)?;
    lines("Services", &detail.services, out)?;
    if !detail.host_ports.is_empty() {
        lines("Host Ports", &detail.host_ports.iter().map(host_port).collect::<Vec<_>>(), out)?;
    }
    start_phases(&detail.start_phases, out)?;
    event::section("Events", &detail.events, now, out)
}

fn field(out: &mut dyn Write, indent: usize, name: &str, value: &str) -> io::Result<()> {
    let name = format!("{:indent$}{name}:", "");
    // What belongs to a container's field stays in its column.
    let line = format!("{name:<width$} {}", printable(value), width = COLUMN + indent.min(4) - 1);
    writeln!(out, "{}", line.trim_end())
}

fn identity(detail: &PodDetail, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let pod: &PodView = &detail.pod;
    field(out, 0, "Name", &pod.name)?;
    field(out, 0, "Namespace", &pod.namespace)?;
    field(out, 0, "UID", &pod.uid)?;
    field(out, 0, "Source", &or_none(detail.source.clone()))?;
    field(out, 0, "Start Time", &moment(pod.started, now))?;
    pairs(out, "Labels", "=", &detail.labels)?;
    pairs(out, "Annotations", ": ", &detail.annotations)?;
    field(out, 0, "Status", &pod.status)?;
    if pod.phase != pod.status {
        field(out, 0, "Phase", &pod.phase)?;
    }
    field(out, 0, "QoS Class", &pod.qos)?;
    field(out, 0, "Host Network", if pod.host_network { "true" } else { "false" })?;
    field(out, 0, "IP", &or_none(pod.ips.first().map(ToString::to_string)))?;
    for ip in pod.ips.iter().skip(1) {
        writeln!(out, "{:COLUMN$}{ip}", "")?;
    }
    field(out, 0, "Cgroup", &detail.cgroup)
}

fn moment(when: Option<Timestamp>, now: Timestamp) -> String {
    when.map_or_else(|| "<unknown>".into(), |when| format!("{when} ({} ago)", age(now, when)))
}

fn pairs(out: &mut dyn Write, title: &str, between: &str, pairs: &BTreeMap<String, String>) -> io::Result<()> {
    if pairs.is_empty() {
        return field(out, 0, title, "<none>");
    }
    for (number, (key, value)) in pairs.iter().enumerate() {
        let text = format!("{key}{between}{value}");
        match number {
            0 => field(out, 0, title, &text)?,
            _ => writeln!(out, "{:COLUMN$}{}", "", printable(&text))?,
        }
    }
    Ok(())
}

fn containers(title: &str, containers: &[&ContainerView], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{title}:")?;
    for container in containers {
        writeln!(out, "  {}:", printable(&container.name))?;
        let mut say = |name: &str, value: &str| field(out, 4, name, value);
        say("Container ID", &or_none(container.id.clone()))?;
        say("PID", &or_none(container.pid.map(|pid| pid.to_string())))?;
        say("Image", &container.image)?;
        say("Image ID", &or_none(container.image_id.clone()))?;
        say("Ports", &or_none(Some(container.ports.join(", "))))?;
        state(container, now, out)?;
        let mut say = |name: &str, value: &str| field(out, 4, name, value);
        say("Last State", &or_none(container.last.clone()))?;
        say("Ready", if container.ready { "True" } else { "False" })?;
        say("Restart Count", &container.restarts.to_string())?;
        several("Resources", &container.resources, out)?;
        several("Probes", &container.probes, out)?;
        several("Mounts", &container.mounts, out)?;
    }
    Ok(())
}

fn state(container: &ContainerView, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let mut name = container.state.clone();
    name.get_mut(..1).map(str::make_ascii_uppercase);
    field(out, 4, "State", &name)?;
    let mut say = |name: &str, value: Option<String>| match value {
        Some(value) => field(out, 6, name, &value),
        None => Ok(()),
    };
    say("Reason", container.reason.clone())?;
    say("Message", container.message.clone())?;
    say("Exit Code", container.exit_code.map(|code| code.to_string()))?;
    say("Started", container.started.map(|when| moment(Some(when), now)))?;
    say("Finished", container.finished.map(|when| moment(Some(when), now)))
}

/// A container's list; nothing when it is empty.
fn several(title: &str, items: &[String], out: &mut dyn Write) -> io::Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "    {title}:")?;
    items.iter().try_for_each(|item| writeln!(out, "      {}", printable(item)))
}

fn conditions(conditions: &[ConditionView], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    if conditions.is_empty() {
        return writeln!(out, "Conditions:  <none>");
    }
    writeln!(out, "Conditions:")?;
    let mut table = Table::new(&["Type", "Status", "Since", "Reason", "Message"]);
    for condition in conditions {
        table.row([
            condition.kind.clone(),
            condition.status.clone(),
            or_none(condition.since.map(|since| age(now, since))),
            condition.reason.clone().unwrap_or_default(),
            condition.message.clone().unwrap_or_default(),
        ]);
    }
    table.write(out, "  ")
}

fn lines(title: &str, items: &[String], out: &mut dyn Write) -> io::Result<()> {
    if items.is_empty() {
        return writeln!(out, "{title}:  <none>");
    }
    writeln!(out, "{title}:")?;
    items.iter().try_for_each(|item| writeln!(out, "  {}", printable(item)))
}

fn host_port(port: &HostPortView) -> String {
    match &port.taken_by {
        Some(owner) => format!("{} is not the pod's: {owner} has it", port.address),
        None => format!("{} to {}", port.address, port.target),
    }
}

fn start_phases(phases: &[(String, u64)], out: &mut dyn Write) -> io::Result<()> {
    if phases.is_empty() {
        return Ok(());
    }
    writeln!(out, "Start Phases:")?;
    let mut table = Table::new(&["Phase", ">Took"]);
    for (phase, took) in phases {
        table.row([phase.clone(), micros(*took)]);
    }
    table.row(["total".into(), micros(phases.iter().map(|(_, took)| took).sum())]);
    table.write(out, "  ")
}
