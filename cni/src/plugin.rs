//! The same network as a CNI plugin, for runtimes that are not Orlop's agent.
//!
//! ```text
//! environment ─▶ call   ─┐
//!                        ├─▶ add · remove (DEL, GC) · check · status ─▶ answer | failure ─▶ standard output
//! standard input ▶ conf ─┘           │
//!                                    ├─▶ store: leases of (network, container, interface), under a lock
//!                                    └─▶ PodNetwork: the wire
//! ```
//!
//! It needs no agent and loads no eBPF: containers reach each other, the node, and what
//! routes lead to, and Services are the business of whatever runs beside it. All that has to be
//! remembered is the leases. What a wire is called follows from its key, so DEL finds it
//! whatever happened to the ADD.

mod add;
mod answer;
mod call;
mod check;
mod conf;
mod failure;
mod place;
mod remove;
mod status;
mod store;
mod version;

use call::Command;
use conf::Document;
pub use failure::{Code, Failure};
use place::Place;
use serde_json::{Map, Value, json};
use std::io::Read;
use version::Version;

/// Bytes of standard input; a `prevResult` of a thousand interfaces has a tenth of that.
const INPUT_LEN_MAX: u64 = 4 << 20;

/// Serves one call: `env` is the environment, `input` standard input, and `warn` takes lines
/// for standard error. Gives what belongs on standard output; nothing for most commands.
///
/// # Errors
/// The specification's error document, for standard output too; the exit code is then not 0.
pub fn run_plugin(
    env: &dyn Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    warn: &mut dyn FnMut(String),
) -> Result<String, String> {
    let mut bytes = Vec::new();
    let outcome = serve(env, input, &mut bytes, warn);
    outcome.map_err(|failure| {
        let asked = conf::version_of(&bytes).and_then(|text| Version::parse(&text).ok());
        failure.document(asked.unwrap_or(Version::V1_1_0))
    })
}

fn serve(
    env: &dyn Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    bytes: &mut Vec<u8>,
    warn: &mut dyn FnMut(String),
) -> Result<String, Failure> {
    let command = call::command(env)?;
    let read = input.take(INPUT_LEN_MAX).read_to_end(bytes);
    read.map_err(|error| {
        Failure::new(Code::Io, "read the network configuration from standard input", error.to_string())
    })?;
    if command == Command::Version {
        return Ok(versions(bytes));
    }
    let document = Document::read(bytes)?;
    let unknown: Vec<&str> = document.unknown().collect();
    if !unknown.is_empty() {
        warn(format!("network {}: nothing is done with the keys {}", document.network, unknown.join(", ")));
    }
    match command {
        Command::Add => add::add(&Place::here()?, &call::target(env, warn)?, &document),
        Command::Del => {
            let target = call::target(env, warn)?;
            remove::del(&Place::here()?, &target, &document, warn).map(|()| String::new())
        }
        Command::Check => check::check(&Place::here()?, &call::target(env, warn)?, &document).map(|()| String::new()),
        Command::Gc => remove::gc(&Place::here()?, &document, warn).map(|()| String::new()),
        Command::Status => status::status(&Place::here()?, &document).map(|()| String::new()),
        Command::Version => Ok(versions(bytes)),
    }
}

/// The answer to VERSION: the caller's own version back, and ours.
fn versions(bytes: &[u8]) -> String {
    let asked = serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    let asked = asked.and_then(|keys| Some(keys.get("cniVersion")?.as_str()?.to_owned()));
    let asked = asked.unwrap_or_else(|| Version::V1_1_0.text().to_owned());
    json!({ "cniVersion": asked, "supportedVersions": Version::ALL.map(Version::text) }).to_string()
}

/// Which versions are spoken, for people.
#[must_use]
pub fn plugin_versions() -> String {
    Version::ALL.map(Version::text).join(", ")
}
