//! Pins of CA keys, from the command line.

use crate::{CertificateFacts, PkiError};

/// SHA-256 of the SubjectPublicKeyInfo of each CA that may be trusted
/// (`--discovery-token-ca-cert-hash sha256:HEX`, which may be repeated).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaPins {
    /// As [`CertificateFacts::pin`] writes them.
    pins: Vec<String>,
}

impl CaPins {
    /// Reads the flag's values.
    ///
    /// # Errors
    /// One is not `sha256:` and 64 hexadecimal digits.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, PkiError> {
        let pins = texts.iter().map(|text| pin(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { pins })
    }

    /// Whether none was given: the token's signature alone is trusted, and who knows the token can stand in
    /// the API server's place (kubeadm's `--discovery-token-unsafe-skip-ca-verification`).
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// Whether the certificate's key is pinned.
    pub fn allow(&self, certificate: &CertificateFacts) -> bool {
        self.pins.contains(&certificate.pin())
    }
}

fn pin(text: &str) -> Result<String, PkiError> {
    let failed = |problem| PkiError::Pin { text: text.into(), problem };
    let (format, hex) = text.split_once(':').ok_or_else(|| failed("has no colon"))?;
    if !format.eq_ignore_ascii_case("sha256") {
        return Err(failed("is of an unknown kind"));
    }
    if hex.len() != 64 {
        return Err(failed("has not 64 digits"));
    }
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(failed("has other characters than hexadecimal digits"));
    }
    Ok(format!("sha256:{}", hex.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::CaPins;

    #[test]
    fn pins_are_read_as_kubeadm_reads_them() {
        #[track_caller]
        fn check(text: &str, want: Result<&str, &str>) {
            match (CaPins::parse(&[text]), want) {
                (Ok(pins), Ok(want)) => assert_eq!(pins.pins, [want]),
                (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{err}"),
                (got, want) => panic!("{got:?}, not {want:?}"),
            }
        }
        let (lower, upper) = ("ab".repeat(32), "AB".repeat(32));
        let want = format!("sha256:{lower}");
        check(&want, Ok(&want));
        check(&format!("SHA256:{upper}"), Ok(&want));
        check(&lower, Err("has no colon"));
        check(&format!("sha1:{lower}"), Err("unknown kind"));
        check("sha256:abab", Err("has not 64 digits"));
        check(&format!("sha256:{}", "xy".repeat(32)), Err("hexadecimal"));
        check(&format!("sha256:{lower}:00"), Err("has not 64 digits"));
    }

    #[test]
    fn no_pins_are_empty() {
        assert!(CaPins::parse::<&str>(&[]).expect("nothing is wrong with nothing").is_empty());
    }
}
