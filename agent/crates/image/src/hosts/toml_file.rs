//! The text of a `hosts.toml`.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A whole file.
pub(super) struct HostsFile {
    /// The registry's own URL.
    pub server: Option<String>,
    /// Settings for the registry itself.
    pub root: HostTable,
    /// Mirrors by URL, in the file's order.
    pub hosts: Vec<(String, HostTable)>,
}

/// Settings of one host. Keys that are not known are passed over: containerd
/// invents new ones.
#[derive(Debug, Default, Deserialize)]
pub(super) struct HostTable {
    pub capabilities: Option<Vec<String>>,
    pub ca: Option<OneOrMany>,
    pub client: Option<Pair>,
    pub skip_verify: Option<bool>,
    pub override_path: Option<bool>,
    pub header: Option<BTreeMap<String, OneOrMany>>,
}

/// `"a"` or `["a", "b"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `"both.pem"`, `["both.pem", …]` or `[["cert.pem", "key.pem"], …]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Pair {
    One(String),
    Many(Vec<OneOrPair>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrPair {
    One(String),
    Two([String; 2]),
    Single([String; 1]),
}

impl OneOrMany {
    pub(super) fn all(&self) -> Vec<&str> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts.iter().map(String::as_str).collect(),
        }
    }
}

impl Pair {
    /// Certificate, and key where it is a file of its own.
    pub(super) fn all(&self) -> Vec<(&str, Option<&str>)> {
        match self {
            Self::One(both) => vec![(both, None)],
            Self::Many(pairs) => pairs
                .iter()
                .map(|pair| match pair {
                    OneOrPair::One(both) | OneOrPair::Single([both]) => (both.as_str(), None),
                    // containerd lets the key be empty when the certificate's file has it.
                    OneOrPair::Two([certificate, key]) => {
                        (certificate.as_str(), Some(key.as_str()).filter(|key| !key.is_empty()))
                    }
                })
                .collect(),
        }
    }
}

/// Reads a file; an error is the key and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<HostsFile, (String, String)> {
    let mut root: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        (format!("line {line}"), error.message().to_owned())
    })?;
    let server = match root.remove("server") {
        None => None,
        Some(Value::String(server)) => Some(server),
        Some(_) => return Err(("server".to_owned(), "is no string".to_owned())),
    };
    let hosts = match root.remove("host") {
        None => Table::new(),
        Some(Value::Table(hosts)) => hosts,
        Some(_) => return Err(("host".to_owned(), "is no table; write [host.\"https://MIRROR\"]".to_owned())),
    };
    let hosts = hosts
        .into_iter()
        .map(|(url, value)| {
            let key = format!("host.{url:?}");
            match value {
                Value::Table(table) => Ok((url, settings(&key, table)?)),
                _ => Err((key, "is no table".to_owned())),
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(HostsFile { server, root: settings("", root)?, hosts })
}

/// Key by key, so that an error can name the key.
fn settings(place: &str, table: Table) -> Result<HostTable, (String, String)> {
    fn field<T: serde::de::DeserializeOwned>(
        place: &str,
        table: &mut Table,
        key: &str,
        kind: &str,
    ) -> Result<Option<T>, (String, String)> {
        let Some(value) = table.remove(key) else { return Ok(None) };
        let key = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        value.try_into().map(Some).map_err(|_: toml::de::Error| (key, format!("is not {kind}")))
    }
    let mut table = table;
    let table = &mut table;
    Ok(HostTable {
        capabilities: field(place, table, "capabilities", "a list of strings")?,
        ca: field(place, table, "ca", "a path or a list of paths")?,
        client: field(place, table, "client", "a path, a list of paths or a list of [certificate, key]")?,
        skip_verify: field(place, table, "skip_verify", "true or false")?,
        override_path: field(place, table, "override_path", "true or false")?,
        header: field(place, table, "header", "a table of strings or lists of strings")?,
    })
}
