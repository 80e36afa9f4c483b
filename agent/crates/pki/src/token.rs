//! Bootstrap tokens: a public id and a secret.

use crate::PkiError;
use std::fmt;
use std::str::FromStr;

/// Characters of a token's id.
const ID_LEN: usize = 6;
/// Characters of a token's secret.
const SECRET_LEN: usize = 16;

/// A bootstrap token, `[a-z0-9]{6}.[a-z0-9]{16}`. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    text: String,
}

impl BootstrapToken {
    /// The public half: names the token's Secret and its signature in `cluster-info`.
    pub fn id(&self) -> &str {
        &self.text[..ID_LEN]
    }

    /// The secret half.
    pub fn secret(&self) -> &str {
        &self.text[ID_LEN + 1..]
    }

    /// The whole token, as a bearer token. Secret.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl FromStr for BootstrapToken {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        match text.split_once('.') {
            Some((id, secret)) if id.len() == ID_LEN && secret.len() == SECRET_LEN && plain(id) && plain(secret) => {
                Ok(Self { text: text.into() })
            }
            _ => Err(PkiError::Token),
        }
    }
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({}.…)", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::BootstrapToken;

    #[test]
    fn only_what_kubeadm_makes_is_a_token() {
        #[track_caller]
        fn check(text: &str, want: Option<(&str, &str)>) {
            let got = text.parse::<BootstrapToken>().ok();
            assert_eq!(got.as_ref().map(|token| (token.id(), token.secret())), want);
        }
        check("abcdef.0123456789abcdef", Some(("abcdef", "0123456789abcdef")));
        check("abcdef0123456789abcdef", None);
        check("abcdef.0123456789abcde", None);
        check("abcde.0123456789abcdef0", None);
        check("ABCDEF.0123456789abcdef", None);
        check("abcdef.0123456789abcde.", None);
        check("abcdef.0123456789abcdef\n", None);
        check("äbcde.0123456789abcdef", None);
        check("", None);
    }

    #[test]
    fn the_secret_is_not_shown() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().expect("a token");
        assert_eq!(format!("{token:?}"), "BootstrapToken(abcdef.…)");
        let err = "abcdef.SECRET".parse::<BootstrapToken>().expect_err("no token").to_string();
        assert!(err.contains("kubeadm token create") && !err.contains("SECRET"), "{err}");
    }
}
