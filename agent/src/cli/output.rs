//! `-o table|json|yaml`.

use super::args::Format;
use super::exit::CliError;
use super::streams::Streams;
use serde::Serialize;
use std::io::{self, Write};

/// Prints a value in the format asked for; `table` does it for people.
///
/// # Errors
/// [`CliError::Output`], [`CliError::Encode`].
pub fn print<T: Serialize>(
    streams: &Streams,
    format: Format,
    value: &T,
    table: impl FnOnce(&T, &mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let text = match format {
        Format::Table => return Ok(streams.print(|out| table(value, out))?),
        Format::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|error| CliError::Encode { format: "JSON", source: error.into() })?,
        Format::Yaml => serde_saphyr::to_string(value)
            .map_err(|error| CliError::Encode { format: "YAML", source: error.to_string().into() })?,
    };
    Ok(streams.print(|out| {
        out.write_all(text.as_bytes())?;
        if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") }
    })?)
}
