//! Kubernetes quantities: `100m`, `1Gi`, `1e3`.

use serde_json::Value;

/// Decimal digits taken; with the largest suffix the value still fits an `i128`.
const DIGITS_MAX: usize = 18;

/// Binary and decimal suffixes: text, power of ten, power of two.
const SUFFIXES: [(&str, i32, u32); 16] = [
    ("", 0, 0),
    ("n", -9, 0),
    ("u", -6, 0),
    ("m", -3, 0),
    ("k", 3, 0),
    ("M", 6, 0),
    ("G", 9, 0),
    ("T", 12, 0),
    ("P", 15, 0),
    ("E", 18, 0),
    ("Ki", 0, 10),
    ("Mi", 0, 20),
    ("Gi", 0, 30),
    ("Ti", 0, 40),
    ("Pi", 0, 50),
    ("Ei", 0, 60),
];

/// Thousandths, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity(i128);

impl Quantity {
    /// `None` when the text is no quantity, or one that no computer has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || fraction.contains('.') || digits.len() > DIGITS_MAX {
            return None;
        }
        let (ten, two) = match SUFFIXES.iter().find(|(text, ..)| *text == suffix) {
            Some((_, ten, two)) => (*ten, *two),
            None => (suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|ten| (-18..=18).contains(ten))?, 0),
        };
        let value = digits.parse::<i128>().ok()? << two;
        let exponent = ten + 3 - i32::try_from(fraction.len()).ok()?;
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        let milli =
            if exponent >= 0 { value.checked_mul(power)? } else { value / power + i128::from(value % power != 0) };
        Some(Self(if negative { -milli } else { milli }))
    }

    /// Thousandths; 0 for what is negative, the largest number for what is larger.
    pub(crate) fn milli(self) -> u64 {
        u64::try_from(self.0.max(0)).unwrap_or(u64::MAX)
    }

    /// Whole units, rounded up.
    pub(crate) fn units(self) -> u64 {
        let milli = self.0.max(0);
        u64::try_from(milli / 1000 + i128::from(milli % 1000 != 0)).unwrap_or(u64::MAX)
    }

    /// Less than nothing.
    pub(crate) fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// What is wrong with a value that ought to be a quantity.
pub(crate) fn problem(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() || Quantity::parse(text).is_some() => None,
        Value::String(text) => Some(format!("{text:?} must be a quantity such as 100m, 10Mi or 2Gi")),
        _ => Some("must be a quantity such as \"10Mi\"; put it in quotes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<(u64, u64)>) {
        assert_eq!(Quantity::parse(text).map(|q| (q.milli(), q.units())), want, "{text:?}");
    }

    #[test]
    fn quantities() {
        for (text, milli, units) in [
            ("0", 0, 0),
            ("1", 1000, 1),
            ("100m", 100, 1),
            ("0.5", 500, 1),
            (".5", 500, 1),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("10Mi", 10_485_760_000, 10_485_760),
            ("1e3", 1_000_000, 1000),
            ("1E", 1_000_000_000_000_000_000_000_u128 as u64, 1_000_000_000_000_000_000),
            ("1n", 1, 1),
        ] {
            let milli = if text == "1E" { u64::MAX } else { milli };
            check(text, Some((milli, units)));
        }
        for text in ["", "-", ".", "x", "1x", "1.2.3", "1 Gi", "1ki", "1e", "1e400", "0x10", "1234567890123456789"] {
            check(text, None);
        }
        assert!(Quantity::parse("-1").unwrap().is_negative());
    }
}
