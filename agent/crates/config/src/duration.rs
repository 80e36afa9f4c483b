//! Go's durations: `1h2m3.5s`.

use jiff::SignedDuration;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// Nanoseconds of each unit, longer names first.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Parses what Go's `time.ParseDuration` parses.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn parse(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} must be a duration such as 10s, 5m or 1h30m");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (unit, factor) =
            UNITS.iter().find(|(unit, _)| tail.starts_with(unit) && is_unit(tail, unit)).ok_or_else(wrong)?;
        nanos += number * factor;
        rest = &tail[unit.len()..];
    }
    // Beyond 2^53 ns (104 days) the float rounds; nobody counts nanoseconds there.
    let duration = SignedDuration::try_from_secs_f64(nanos / 1e9).map_err(|_| wrong())?;
    Ok(if negative { -duration } else { duration })
}

/// The unit ends where the next number starts.
fn is_unit(tail: &str, unit: &str) -> bool {
    tail[unit.len()..].chars().next().is_none_or(|c| c.is_ascii_digit() || c == '.')
}

/// What is wrong with a value that ought to be a duration. A number would be nanoseconds to
/// some programs and seconds to others: only 0 is one.
pub(crate) fn problem(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::String(text) => parse(text).err(),
        other => Some(format!("{other} must be a duration such as \"10s\", \"5m\" or \"1h30m\"")),
    }
}

/// For `deserialize_with`.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<SignedDuration, D::Error> {
    let value = Value::deserialize(from)?;
    match (problem(&value), &value) {
        (Some(problem), _) => Err(Error::custom(problem)),
        (None, Value::String(text)) => parse(text).map_err(Error::custom),
        (None, _) => Ok(SignedDuration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, millis: Option<i64>) {
        assert_eq!(parse(text).ok(), millis.map(SignedDuration::from_millis), "{text:?}");
    }

    #[test]
    fn as_go_reads_them() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000),
            ("5m0s", 300_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("100ms", 100),
            ("-1m", -60_000),
            ("+2s", 2000),
            ("1m1ms", 60_001),
            (".5s", 500),
            ("2000us", 2),
            ("2000µs", 2),
        ] {
            check(text, Some(millis));
        }
        for text in ["", "-", "10", "s", "5 m", "1d", "1.2.3s", "1mm", "5ms5", "1h-2m", "9e3s"] {
            check(text, None);
        }
    }
}
