//! One line of a CRI log: `TIME STREAM TAGS CONTENT`.
//!
//! The format is that of `k8s.io/cri-client/pkg/logs`: TAGS start with `P` when
//! the writer's line goes on in a later piece of the same stream and with `F` when
//! it ends here; more tags follow after colons.

/// Which of the container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One piece of what a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// RFC 3339 with nanoseconds, as written.
    pub time: &'a str,
    /// Which output.
    pub source: Source,
    /// The line goes on.
    pub partial: bool,
    /// Without the line's end.
    pub content: &'a [u8],
}

/// Understands a raw line, its end already cut off; `None` when it is not CRI's
/// (a writer that died in the middle).
pub fn parse(line: &[u8]) -> Option<Piece<'_>> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let time = str::from_utf8(parts.next()?).ok()?;
    let source = match parts.next()? {
        b"stdout" => Source::Stdout,
        b"stderr" => Source::Stderr,
        _ => return None,
    };
    let partial = match parts.next()?.split(|&byte| byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    // A writer may leave out the space before an empty content.
    Some(Piece { time, source, partial, content: parts.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: Option<(Source, bool, &str)>) {
        let got = parse(line.as_bytes());
        let got = got.map(|piece| (piece.source, piece.partial, str::from_utf8(piece.content).unwrap()));
        assert_eq!(got, want, "{line}");
    }

    #[test]
    fn lines_are_understood_or_refused() {
        check("2026-01-31T10:00:00.123456789Z stdout F a b  c", Some((Source::Stdout, false, "a b  c")));
        check("2026-01-31T10:00:00.1+01:00 stderr P half", Some((Source::Stderr, true, "half")));
        check("t stdout F:more tags", Some((Source::Stdout, false, "tags")));
        check("t stdout F ", Some((Source::Stdout, false, "")));
        check("t stdout F", Some((Source::Stdout, false, "")));
        check("t stdin F x", None);
        check("t stdout X x", None);
        check("half a li", None);
        check("", None);
    }
}
