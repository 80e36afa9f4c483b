//! `orlop counters`.

use super::args::CountersArgs;
use super::client::Client;
use super::exit::CliError;
use super::output;
use super::quantity;
use super::streams::Streams;
use super::table::{Table, or_none, printable};
use crate::api::{CountersView, Request, Response};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Shows counters.
pub fn run(client: &Client, streams: &Streams, args: &CountersArgs) -> Result<(), CliError> {
    let pod = args.pod.as_ref().map(|pod| pod.resolve(args.namespace.as_deref())).transpose()?;
    let everything = pod.is_none();
    let request = Request::Counters { pod };
    let Response::Counters(mut counters) = client.ask(&request)? else { return Err(CliError::Unexpected) };
    if let (true, Some(only)) = (everything, args.namespace.as_deref()) {
        counters.pods.retain(|pod| pod.namespace == only);
        counters.backends.retain(|backend| backend.service.split('/').next() == Some(only));
        counters.not_counted.retain(|line| line.split('/').next() == Some(only));
    }
    output::print(streams, args.output.output, &counters, |counters, out| table(counters, args.exact, out))?;
    if counters.pods.is_empty() {
        streams.note("No pods with counters.");
    }
    Ok(())
}

/// Pods, then Service backends, then drops, then who is not counted.
pub fn table(counters: &CountersView, exact: bool, out: &mut dyn Write) -> io::Result<()> {
    let size = |bytes: u64| if exact { bytes.to_string() } else { quantity::bytes(bytes) };
    pods(counters, size).write(out, "")?;
    writeln!(out)?;
    backends(counters, size).write(out, "")?;
    writeln!(out)?;
    drops(counters).write(out, "")?;
    if !counters.not_counted.is_empty() {
        writeln!(out, "\nNot counted:")?;
        for line in &counters.not_counted {
            writeln!(out, "  {}", printable(line))?;
        }
    }
    Ok(())
}

fn pods(counters: &CountersView, size: impl Fn(u64) -> String) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD",
        ">IN PACKETS",
        ">IN BYTES",
        ">IN CONNS",
        ">OUT PACKETS",
        ">OUT BYTES",
        ">OUT CONNS",
        ">DROPS",
    ]);
    for pod in &counters.pods {
        let drops: u64 = pod.drops_in.values().chain(pod.drops_out.values()).sum();
        table.row([
            pod.namespace.clone(),
            pod.name.clone(),
            pod.received.packets.to_string(),
            size(pod.received.bytes),
            pod.received.connections.to_string(),
            pod.sent.packets.to_string(),
            size(pod.sent.bytes),
            pod.sent.connections.to_string(),
            drops.to_string(),
        ]);
    }
    table
}

fn backends(counters: &CountersView, size: impl Fn(u64) -> String) -> Table {
    let mut table = Table::new(&[
        "SERVICE",
        "BACKEND",
        "POD",
        ">CONNS",
        ">PACKETS TO",
        ">BYTES TO",
        ">PACKETS FROM",
        ">BYTES FROM",
    ]);
    for backend in &counters.backends {
        table.row([
            backend.service.clone(),
            backend.backend.clone(),
            or_none(backend.pod.clone()),
            backend.connections.to_string(),
            backend.packets_to.to_string(),
            size(backend.bytes_to),
            backend.packets_from.to_string(),
            size(backend.bytes_from),
        ]);
    }
    table
}

fn drops(counters: &CountersView) -> Table {
    let mut table = Table::new(&["DROPPED AT", "WAY", "REASON", ">PACKETS"]);
    let mut add = |place: &str, way: &str, drops: &BTreeMap<String, u64>| {
        for (reason, packets) in drops {
            table.row([place.into(), way.into(), reason.clone(), packets.to_string()]);
        }
    };
    for pod in &counters.pods {
        let place = format!("{}/{}", pod.namespace, pod.name);
        add(&place, "in", &pod.drops_in);
        add(&place, "out", &pod.drops_out);
    }
    add("node", "any", &counters.node_drops);
    table
}
