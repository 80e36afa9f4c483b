//! PEM text (RFC 7468), written; reading is rustls's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Characters a line (RFC 7468, section 2).
const LINE: usize = 64;

/// One PEM block with its label, for example `CERTIFICATE`.
pub(crate) fn block(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn lines_are_64_characters() {
        let pem = block("X", &[0; 49]);
        let want = format!("-----BEGIN X-----\n{}\nAA==\n-----END X-----\n", "A".repeat(64));
        assert_eq!(pem, want);
    }
}
