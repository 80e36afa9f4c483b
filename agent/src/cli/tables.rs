//! `orlop tables`.

use super::args::OutputArg;
use super::client::Client;
use super::exit::CliError;
use super::output;
use super::streams::Streams;
use super::table::Table;
use crate::api::{Request, Response, TableView};
use std::io::{self, Write};

/// Shows how full the eBPF programs' tables are.
pub fn run(client: &Client, streams: &Streams, args: &OutputArg) -> Result<(), CliError> {
    let Response::Tables(tables) = client.ask(&Request::Tables)? else { return Err(CliError::Unexpected) };
    output::print(streams, args.output, &tables, |tables, out| table(tables, out))
}

/// One row a table.
pub fn table(tables: &[TableView], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["MAP", ">ENTRIES", ">OF", ">%", ">FAILED INSERTS", "WHAT IT HOLDS"]);
    for one in tables {
        let share = u64::from(one.entries) * 100 / u64::from(one.max_entries.max(1));
        table.row([
            one.map.clone(),
            one.entries.to_string(),
            one.max_entries.to_string(),
            share.to_string(),
            one.failed_inserts.to_string(),
            one.purpose.clone(),
        ]);
    }
    table.write(out, "")
}
