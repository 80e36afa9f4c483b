//! The tables of `ebpf/README.md` are the code's. `ORLOP_BLESS=1` writes them.

use orlop_datapath::{DropReason, Program};
use orlop_ebpf_abi::MAPS;
use std::fmt::Write;
use std::path::Path;

fn programs() -> String {
    let mut text = "| Program | Hook | What it does |\n|---|---|---|\n".to_owned();
    for program in Program::ALL {
        writeln!(text, "| `{program}` | {} | {} |", program.hook_words(), program.sentence()).unwrap();
    }
    text
}

fn maps() -> String {
    let mut text = "| Map | Type | Key, value (bytes) | Entries | What it holds |\n|---|---|---|---|---|\n".to_owned();
    for map in MAPS {
        let entries = if map.entries == 0 { "one a socket".to_owned() } else { map.entries.to_string() };
        let (name, kind, key, value) = (map.name, map.kind, map.key_size, map.value_size);
        writeln!(text, "| `{name}` | {kind:?} | {key}, {value} | {entries} | {} |", map.purpose).unwrap();
    }
    text
}

fn drop_reasons() -> String {
    let mut text = "| Number | Reason | What happened |\n|---|---|---|\n".to_owned();
    for reason in DropReason::ALL {
        writeln!(text, "| {} | `{}` | {} |", *reason as u8, reason.name(), reason.sentence()).unwrap();
    }
    text
}

/// Replaces what stands between the markers of `name`.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("the README lacks {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the README lacks {end}"));
    format!("{before}{begin}{table}{end}{after}")
}

#[test]
fn readme_tables_are_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../ebpf/README.md");
    let old = std::fs::read_to_string(&path).unwrap();
    let mut new = old.clone();
    for (name, table) in [("programs", programs()), ("maps", maps()), ("drop reasons", drop_reasons())] {
        new = with_table(&new, name, &table);
    }
    if std::env::var_os("ORLOP_BLESS").is_some() {
        std::fs::write(&path, new).unwrap();
    } else {
        assert!(old == new, "ebpf/README.md is stale: run `ORLOP_BLESS=1 cargo test -p orlop-datapath --test readme`");
    }
}
