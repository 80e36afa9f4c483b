//! Kubernetes quantities (`100m`, `0.5`, `1Gi`, `1e3`), exact, rounding up.

/// What the API server says about a text that is no quantity.
pub(crate) const QUANTITY_RULE: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Significant digits taken. `10^20 * 2^60` still fits an `i128`.
const DIGITS_MAX: usize = 20;

/// `mantissa * 10^exp10 * 2^exp2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity {
    mantissa: i128,
    exp10: i32,
    exp2: u32,
}

impl Quantity {
    /// `None` when the text is no quantity or has more than 20 significant digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{}{fraction}", whole.trim_start_matches('0'));
        let digits = digits.trim_start_matches('0');
        if digits.len() > DIGITS_MAX {
            return None;
        }
        let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let (exp10, exp2) = suffix_exponents(suffix)?;
        let exp10 = exp10.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        Some(Self { mantissa: if negative { -mantissa } else { mantissa }, exp10, exp2 })
    }

    pub(crate) fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    /// Thousandths, rounded up; the largest `i64` when more (as the API server caps it).
    pub(crate) fn milli(self) -> u64 {
        self.scaled(3)
    }

    /// Whole units, rounded up; the largest `i64` when more.
    pub(crate) fn units(self) -> u64 {
        self.scaled(0)
    }

    fn scaled(self, shift: i32) -> u64 {
        const CAP: i128 = i64::MAX as i128;
        let base = self.mantissa.max(0) << self.exp2;
        let exponent = self.exp10 + shift;
        let power = 10_i128.checked_pow(exponent.unsigned_abs());
        let value = match (power, exponent >= 0) {
            _ if base == 0 => 0,
            (Some(power), true) => base.checked_mul(power).unwrap_or(CAP),
            (None, true) => CAP,
            (Some(power), false) => base / power + i128::from(base % power != 0),
            (None, false) => 1,
        };
        u64::try_from(value.min(CAP)).unwrap_or(0)
    }
}

fn suffix_exponents(suffix: &str) -> Option<(i32, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (exponent.clamp(-1000, 1000), 0)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[track_caller]
    fn check(text: &str, want: Option<(u64, u64)>) {
        let got = Quantity::parse(text).map(|q| (q.milli(), q.units()));
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn quantities() {
        for (text, milli, units) in [
            ("0", 0, 0),
            ("1", 1000, 1),
            ("+1", 1000, 1),
            ("100m", 100, 1),
            ("1m", 1, 1),
            ("0.5", 500, 1),
            (".5", 500, 1),
            ("5.", 5000, 5),
            ("1.5", 1500, 2),
            ("0.0001", 1, 1),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("1500m", 1500, 2),
            ("1k", 1_000_000, 1000),
            ("1Ki", 1_024_000, 1024),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("0.5Gi", 536_870_912_000, 536_870_912),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("1M", 1_000_000_000, 1_000_000),
            ("129M", 129_000_000_000, 129_000_000),
            ("128974848", 128_974_848_000, 128_974_848),
            ("123Mi", 128_974_848_000, 128_974_848),
            ("129e6", 129_000_000_000, 129_000_000),
            ("1e3", 1_000_000, 1000),
            ("1E3", 1_000_000, 1000),
            ("1e-3", 1, 1),
            ("1E", i64::MAX as u64, 1_000_000_000_000_000_000),
            ("7Ei", i64::MAX as u64, 7 << 60),
            ("8Ei", i64::MAX as u64, i64::MAX as u64),
            ("1e400", i64::MAX as u64, i64::MAX as u64),
            ("1e-400", 1, 1),
            ("0e400", 0, 0),
            ("9223372036854775807", i64::MAX as u64, i64::MAX as u64),
            ("0.10000000000000000000000000", 100, 1),
            ("000000000000000000000000001", 1000, 1),
        ] {
            check(text, Some((milli, units)));
        }
        for bad in [
            "",
            "-",
            "+",
            ".",
            "x",
            "1x",
            "1.2.3",
            "1 Gi",
            " 1",
            "1ki",
            "1KI",
            "1mi",
            "1e",
            "1e1.5",
            "--1",
            "0x10",
            "1Gi5",
            "123456789012345678901",
            "１",
        ] {
            check(bad, None);
        }
        assert!(Quantity::parse("-1").unwrap().is_negative());
        assert!(!Quantity::parse("-0").unwrap().is_negative());
    }
}
