//! Events as `kubectl describe` prints them.

use super::quantity::age;
use super::table::Table;
use jiff::Timestamp;
use orlop_model::{Event, EventKind};
use std::io::{self, Write};

/// `Events:` and a table, or `<none>`.
pub fn section(title: &str, events: &[Event], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    if events.is_empty() {
        return writeln!(out, "{title}:  <none>");
    }
    writeln!(out, "{title}:")?;
    let mut table = Table::new(&["Type", "Reason", "Age", "Message"]);
    for event in events {
        let kind = match event.kind {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        };
        table.row([kind.into(), event.reason.clone(), when(event, now), event.message.clone()]);
    }
    table.write(out, "  ")
}

fn when(event: &Event, now: Timestamp) -> String {
    match event.count {
        0 | 1 => age(now, event.last),
        count => format!("{} (x{count} over {})", age(now, event.last), age(now, event.first)),
    }
}
