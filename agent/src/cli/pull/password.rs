//! A password that is in no argument vector.

use crate::cli::exec::RawMode;
use crate::cli::exit::CliError;
use crate::cli::streams::Streams;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;

/// Bytes of a password at most; tokens of registries have a few thousand.
const PASSWORD_BYTES_MAX: usize = 64 << 10;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// The first line of stdin; asked for, and not shown, on a terminal.
pub(super) fn read(streams: &Streams, user: &str) -> Result<String, CliError> {
    let raw = match streams.stdin.is_terminal() {
        true => {
            let _ = write!(&streams.stderr, "Password of {user}: ");
            Some(RawMode::enter(streams.stdin.as_fd())?)
        }
        false => None,
    };
    let line = line(&streams.stdin, raw.is_some());
    if raw.is_some() {
        let _ = write!(&streams.stderr, "\r\n");
    }
    line
}

fn line(mut input: impl Read, terminal: bool) -> Result<String, CliError> {
    let usage = |problem: &str| CliError::Usage(format!("the password {problem}"));
    let (mut text, mut byte) = (Vec::new(), [0]);
    while input.read(&mut byte).map_err(|source| CliError::Terminal { what: "read the password", source })? > 0 {
        match byte[0] {
            b'\n' | b'\r' => break,
            CTRL_C if terminal => return Err(usage("was not given")),
            CTRL_D if terminal => break,
            BACKSPACE | DELETE if terminal => drop(text.pop()),
            byte if text.len() < PASSWORD_BYTES_MAX => text.push(byte),
            _ => return Err(usage("is longer than 64 KiB")),
        }
    }
    String::from_utf8(text).map_err(|_| usage("is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |input: &str, terminal, want: Option<&str>| {
            assert_eq!(line(input.as_bytes(), terminal).ok().as_deref(), want, "{input:?}");
        };
        check("secret\nrest", false, Some("secret"));
        check("secret", false, Some("secret"));
        check("", false, Some(""));
        check("secx\u{7f}ret\r", true, Some("secret"));
        check("sec\u{3}", true, None);
        check("sec\u{3}\n", false, Some("sec\u{3}"));
    }
}
