//! `orlop images` and `orlop load`.

use super::args::{LoadArgs, OutputArg};
use super::client::Client;
use super::exit::CliError;
use super::output;
use super::quantity::{age, bytes};
use super::streams::Streams;
use super::table::{Table, or_none};
use crate::api::{ImageView, Request, Response};
use jiff::Timestamp;
use std::io::{self, Write};

/// Lists the images on the node.
pub fn list(client: &Client, streams: &Streams, args: &OutputArg, now: Timestamp) -> Result<(), CliError> {
    let Response::Images(images) = client.ask(&Request::Images)? else { return Err(CliError::Unexpected) };
    output::print(streams, args.output, &images, |images, out| table(images, now, out))?;
    if images.is_empty() {
        streams.note("No images. Get one: orlop pull IMAGE, or orlop load PATH.");
    }
    Ok(())
}

/// Loads images, and lists those that were loaded.
pub fn load(client: &Client, streams: &Streams, args: &LoadArgs, now: Timestamp) -> Result<(), CliError> {
    // The agent's working directory is not ours.
    let path = std::path::absolute(&args.path)
        .map_err(|error| CliError::Usage(format!("make {} absolute: {error}", args.path.display())))?;
    let request = Request::Load { path, name: args.name.clone() };
    let Response::Images(images) = client.ask(&request)? else { return Err(CliError::Unexpected) };
    output::print(streams, args.output.output, &images, |images, out| table(images, now, out))?;
    if images.is_empty() {
        streams.note(&format!("No images in {}.", args.path.display()));
    }
    Ok(())
}

/// One row a name, so that each can be copied into a manifest.
pub fn table(images: &[ImageView], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["NAME", "ID", ">SIZE", ">LAYERS", "CREATED", ">PODS"]);
    for image in images {
        let unnamed = ["<none>".to_owned()];
        for name in if image.names.is_empty() { &unnamed[..] } else { &image.names } {
            table.row([
                name.clone(),
                image.id.clone(),
                bytes(image.size),
                image.layers.to_string(),
                created(image, now),
                image.used_by.to_string(),
            ]);
        }
    }
    table.write(out, "")
}

fn created(image: &ImageView, now: Timestamp) -> String {
    let text = or_none(image.created.clone());
    text.parse().map_or(text, |then| format!("{} ago", age(now, then)))
}
