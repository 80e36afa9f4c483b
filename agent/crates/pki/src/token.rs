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
