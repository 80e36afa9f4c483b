//! `orlop pull`: a bar a layer on a terminal, lines elsewhere, and what came of it.
//!
//! Progress goes to stderr, so that `-o json` prints nothing but its document. An
//! interrupted command closes its connection, which ends the pull.

mod bars;
mod password;

use super::args::PullArgs;
use super::client::Client;
use super::exit::CliError;
use super::output;
use super::quantity::bytes;
use super::streams::Streams;
use crate::api::{PullCredential, PulledView, Request, Response};
use bars::Display;
use std::io::{self, Write};

/// Has the agent pull an image.
pub fn run(client: &Client, streams: &Streams, args: &PullArgs) -> Result<(), CliError> {
    let credential = args.creds.as_deref().map(|creds| credential(streams, creds)).transpose()?;
    let request = Request::Pull { image: args.image.clone(), credential };
    let conversation = client.open(&request, &[])?;
    let mut display = Display::new(streams);
    let pulled = loop {
        // A pull may wait for its turn, and for a slow registry: the agent knows for how long.
        match conversation.next(None)?.0 {
            Response::PullProgress(layers) => display.show(&layers),
            Response::Pulled(pulled) => break pulled,
            _ => return Err(CliError::Unexpected),
        }
    };
    output::print(streams, args.output.output, &pulled, table)
}

fn table(pulled: &PulledView, out: &mut dyn Write) -> io::Result<()> {
    let seconds = pulled.took_ms / 1000;
    let tenths = pulled.took_ms % 1000 / 100;
    writeln!(out, "{}", pulled.name)?;
    writeln!(out, "{}", pulled.image_id)?;
    writeln!(out, "{} packed, {} layer(s), {seconds}.{tenths} s", bytes(pulled.size_bytes), pulled.layers)
}

/// `USER:PASSWORD`, or `USER` and the password from stdin.
fn credential(streams: &Streams, creds: &str) -> Result<PullCredential, CliError> {
    let (username, password) = match creds.split_once(':') {
        Some((username, password)) => (username, password.to_owned()),
        None => (creds, password::read(streams, creds)?),
    };
    if username.is_empty() {
        return Err(CliError::Usage("--creds is USER or USER:PASSWORD".to_owned()));
    }
    Ok(PullCredential { username: username.to_owned(), password })
}
