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
    event::section("Problems", &node.problems, now, out)?;
    for (object, events) in &node.events {
        event::section(&format!("Events of {}", printable(object)), events, now, out)?;
    }
    Ok(())
}
