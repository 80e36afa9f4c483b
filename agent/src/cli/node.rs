//! `orlop node`.

use super::args::OutputArg;
use super::client::Client;
use super::exit::CliError;
use super::quantity::age;
use super::streams::Streams;
use super::table::{joined, or_none, printable};
use super::{event, output};
use crate::api::{NodeView, Request, Response};
use jiff::Timestamp;
use std::io::{self, Write};

/// Shows the node.
pub fn run(client: &Client, streams: &Streams, args: &OutputArg, now: Timestamp) -> Result<(), CliError> {
    let Response::Node(node) = client.ask(&Request::Node)? else { return Err(CliError::Unexpected) };
    output::print(streams, args.output, &node, |node, out| text(node, now, out))
}

/// Fields, then trouble with manifests, then the events of other objects.
pub fn text(node: &NodeView, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let manifests = node.manifests.as_ref().map(|path| path.display().to_string());
    let fields = [
        ("Name", node.name.clone()),
        ("Agent Version", node.version.clone()),
        ("Agent Started", format!("{} ({} ago)", node.started, age(now, node.started))),
        ("Addresses", joined(&node.addresses)),
        ("Pod CIDRs", joined(&node.pod_cidrs)),
        ("Service CIDR", or_none(node.service_cidr.clone())),
        ("Manifests", or_none(manifests)),
    ];
    for (name, value) in fields {
        writeln!(out, "{:<16}{}", format!("{name}:"), printable(&value))?;
    }
    if let Some(cluster) = &node.cluster {
        let rows = [
            ("Registered", if cluster.registered { "yes" } else { "not yet" }.to_owned()),
            ("Pods Wanted", cluster.pods.map_or_else(|| "not known yet".to_owned(), |pods| pods.to_string())),
            ("Pod Patches", counted(cluster.pod_status_patches, cluster.pod_status_failures)),
            ("Node Patches", counted(cluster.node_status_patches, cluster.node_status_failures)),
            ("Lease Renewals", counted(cluster.lease_renewals, cluster.lease_failures)),
            (
                "Events",
                format!(
                    "{} created, {} counted up, {} dropped",
                    cluster.events_created, cluster.events_patched, cluster.events_dropped
                ),
            ),
        ];
        writeln!(out, "API Server:")?;
        for (name, value) in rows {
            writeln!(out, "  {:<16}{value}", format!("{name}:"))?;
        }
    }
    event::section("Problems", &node.problems, now, out)?;
    for (object, events) in &node.events {
        event::section(&format!("Events of {}", printable(object)), events, now, out)?;
    }
    Ok(())
}

fn counted(done: u64, failed: u64) -> String {
    if failed == 0 { done.to_string() } else { format!("{done}, {failed} failed") }
}
