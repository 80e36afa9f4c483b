//! `orlop ps`.

use super::args::PsArgs;
use super::client::Client;
use super::exit::CliError;
use super::output;
use super::quantity::{age, age_or_unknown};
use super::streams::Streams;
use super::table::{Table, joined, or_none};
use crate::api::{ContainerView, PodView, Request, Response};
use jiff::Timestamp;
use std::io::{self, Write};

/// Lists pods, or their containers.
pub fn run(client: &Client, streams: &Streams, args: &PsArgs, now: Timestamp) -> Result<(), CliError> {
    let Response::Pods(mut pods) = client.ask(&Request::Pods)? else { return Err(CliError::Unexpected) };
    let namespace = args.filter.namespace.as_deref();
    pods.retain(|pod| namespace.is_none_or(|only| pod.namespace == only));
    output::print(streams, args.output.output, &pods, |pods, out| match args.containers {
        true => containers(pods, now, out),
        false => table(pods, now, out),
    })?;
    if pods.is_empty() {
        streams.note(&namespace.map_or_else(|| "No pods.".into(), |only| format!("No pods in namespace {only}.")));
    }
    Ok(())
}

/// The columns of `kubectl get pods -o wide` that one node can fill.
pub fn table(pods: &[PodView], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]);
    for pod in pods {
        let main = pod.containers.iter().filter(|container| !container.init);
        let ready = main.clone().filter(|container| container.ready).count();
        table.row([
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{ready}/{}", main.count()),
            pod.status.clone(),
            restarts(pod, now),
            age_or_unknown(now, pod.started),
            joined(&pod.ips),
        ]);
    }
    table.write(out, "")
}

/// Like kubectl: those of the init containers while these run, else those of the
/// main ones; and when the latest was, if one is known.
fn restarts(pod: &PodView, now: Timestamp) -> String {
    let initializing = pod.status.starts_with("Init:");
    let counted = || pod.containers.iter().filter(|container| container.init == initializing && container.restarts > 0);
    let total: u32 = counted().map(|container| container.restarts).sum();
    let latest = counted().filter_map(|container| container.started.max(container.finished)).max();
    match latest {
        Some(latest) => format!("{total} ({} ago)", age(now, latest)),
        None => total.to_string(),
    }
}

/// One row a container.
pub fn containers(pods: &[PodView], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD",
        "CONTAINER",
        "READY",
        "STATE",
        ">RESTARTS",
        "AGE",
        ">PID",
        "ID",
        "IMAGE",
        "IMAGE ID",
    ]);
    for pod in pods {
        for container in &pod.containers {
            table.row([
                pod.namespace.clone(),
                pod.name.clone(),
                if container.init { format!("{} (init)", container.name) } else { container.name.clone() },
                container.ready.to_string(),
                state(container),
                container.restarts.to_string(),
                or_none(container.started.map(|started| age(now, started))),
                or_none(container.pid.map(|pid| pid.to_string())),
                or_none(container.id.clone()),
                container.image.clone(),
                or_none(container.image_id.clone()),
            ]);
        }
    }
    table.write(out, "")
}

fn state(container: &ContainerView) -> String {
    match (container.reason.as_deref(), container.exit_code) {
        (Some(reason), Some(code)) => format!("{} ({reason}, exit code {code})", container.state),
        (Some(reason), None) => format!("{} ({reason})", container.state),
        (None, Some(code)) => format!("{} (exit code {code})", container.state),
        (None, None) => container.state.clone(),
    }
}
