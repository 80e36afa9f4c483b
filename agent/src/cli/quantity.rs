//! Ages and sizes as people read them.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// How long ago, in the words of kubectl: `HumanDuration` of
/// `k8s.io/apimachinery/pkg/util/duration`.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.as_second() - then.as_second())
}

/// The age of something that may not have happened.
pub fn age_or_unknown(now: Timestamp, then: Option<Timestamp>) -> String {
    then.map_or_else(|| "<unknown>".into(), |then| age(now, then))
}

/// A duration in seconds: two units at most, one when the first says enough.
pub fn span(seconds: i64) -> String {
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match seconds {
        // Clocks of two machines differ; more than a second is somebody's mistake.
        ..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// Microseconds with three digits that matter: `870µs`, `12.3ms`, `1.52s`.
pub fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}ms", three_digits(micros as f64 / 1e3)),
        _ => format!("{}s", three_digits(micros as f64 / 1e6)),
    }
}

/// Bytes in powers of 1024: `512B`, `4.21MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // From 1023.5 on, three digits would round up to the next unit's 1024.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{}{}", three_digits(value), UNITS[unit])
}

fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_kubectls() {
        let check = |seconds, want: &str| assert_eq!(span(seconds), want, "{seconds}");
        check(-5, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(312, "5m12s");
        check(599, "9m59s");
        check(600, "10m");
        check(3 * HOUR - 1, "179m");
        check(3 * HOUR, "3h");
        check(7 * HOUR + 31 * MINUTE, "7h31m");
        check(8 * HOUR + MINUTE, "8h");
        check(47 * HOUR, "47h");
        check(2 * DAY, "2d");
        check(3 * DAY + 4 * HOUR, "3d4h");
        check(8 * DAY + HOUR, "8d");
        check(729 * DAY, "729d");
        check(2 * YEAR + 3 * DAY, "2y3d");
        check(9 * YEAR + 3 * DAY, "9y");
    }

    #[test]
    fn sizes_have_three_digits() {
        let check = |size, want: &str| assert_eq!(bytes(size), want, "{size}");
        check(0, "0B");
        check(1023, "1023B");
        check(1024, "1.00KiB");
        check(4_415_488, "4.21MiB");
        check(12 << 20, "12.0MiB");
        check((1 << 20) - 1, "1.00MiB");
        check(700 << 30, "700GiB");
        check(u64::MAX, "16.0EiB");
    }

    #[test]
    fn microseconds_pick_their_unit() {
        let check = |value, want: &str| assert_eq!(micros(value), want, "{value}");
        check(870, "870µs");
        check(12_340, "12.3ms");
        check(1_520_000, "1.52s");
    }
}
