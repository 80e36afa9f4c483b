//! Identities. Each is checked where it is built, so that a path, a cgroup name
//! or a map key made from one can never be hostile.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {problem}")]
pub struct IdError {
    /// What it should have been: "pod uid", "container name", …
    pub kind: &'static str,
    /// The text that was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// RFC 1123 label: at most 63 of `a-z0-9-`, alphanumeric at both ends.
fn check_label(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.len() > 63 {
        return Err(IdError { kind, text: text.to_owned(), problem: "is longer than 63 characters" });
    }
    check_label_text(kind, text)
}

fn check_label_text(kind: &'static str, text: &str) -> Result<(), IdError> {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let problem = match bytes {
        [] => "is empty",
        _ if !bytes.iter().all(|&c| edge(c) || c == b'-') => "may hold only lower-case letters, digits and '-'",
        [first, .., last] if !edge(*first) || !edge(*last) => "must start and end with a letter or digit",
        [only] if !edge(*only) => "must start and end with a letter or digit",
        _ => return Ok(()),
    };
    Err(IdError { kind, text: text.to_owned(), problem })
}

/// RFC 1123 subdomain as Kubernetes has it: labels joined by dots, at most 253
/// characters in all, no limit for each.
fn check_subdomain(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.len() > 253 {
        return Err(IdError { kind, text: text.to_owned(), problem: "is longer than 253 characters" });
    }
    text.split('.').try_for_each(|label| check_label_text(kind, label))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// Names the text and what is wrong with it.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let check: fn(&'static str, &str) -> Result<(), IdError> = $check;
                check($kind, &text)?;
                Ok(Self(text))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn check_uid(kind: &'static str, text: &str) -> Result<(), IdError> {
    let problem = match text {
        "" => "is empty",
        _ if text.len() > 64 => "is longer than 64 characters",
        _ if !text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') => "may hold only letters, digits and '-'",
        _ if text.starts_with('-') => "must not start with '-'",
        _ => return Ok(()),
    };
    Err(IdError { kind, text: text.to_owned(), problem })
}

fn check_container_id(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        return Ok(());
    }
    Err(IdError { kind, text: text.to_owned(), problem: "is not 64 lower-case hexadecimal digits" })
}

/// The registry reference grammar is checked by the image crate; here only what
/// would break a log line or a table is refused.
fn check_image(kind: &'static str, text: &str) -> Result<(), IdError> {
    let problem = match text {
        "" => "is empty",
        _ if text.len() > 512 => "is longer than 512 characters",
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => "holds white space",
        _ => return Ok(()),
    };
    Err(IdError { kind, text: text.to_owned(), problem })
}

text_id!(
    /// A pod's UID: unique over the cluster's life; names its folder and cgroup.
    PodUid, "pod uid", check_uid
);
text_id!(
    /// A container's name: an RFC 1123 label, unique in its pod.
    ContainerName, "container name", check_label
);
text_id!(
    /// One attempt at running a container: 64 hexadecimal digits, as every
    /// other runtime's, because log collectors expect that shape.
    ContainerId, "container id", check_container_id
);
text_id!(
    /// An image as the pod wrote it, for example `busybox` or `ghcr.io/a/b:1@sha256:…`.
    ImageRef, "image", check_image
);

macro_rules! object_key {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check_name:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name {
            namespace: String,
            name: String,
        }

        impl $name {
            /// Checks both parts: the namespace is a label.
            ///
            /// # Errors
            /// Names the part and what is wrong with it.
            pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, IdError> {
                let (namespace, name) = (namespace.into(), name.into());
                check_label("namespace", &namespace)?;
                let check: fn(&'static str, &str) -> Result<(), IdError> = $check_name;
                check($kind, &name)?;
                Ok(Self { namespace, name })
            }
            /// The namespace.
            #[must_use]
            pub fn namespace(&self) -> &str {
                &self.namespace
            }
            /// The name inside the namespace.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.name
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    };
}

object_key!(
    /// A pod by namespace and name (an RFC 1123 subdomain).
    PodKey, "pod name", check_subdomain
);
object_key!(
    /// A Service by namespace and name (an RFC 1123 label).
    ServiceKey, "service name", check_label
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "a-b", "0", "web-1"] {
            ContainerName::new(good).unwrap();
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "-", &"x".repeat(64)] {
            ContainerName::new(bad).unwrap_err();
        }
    }

    #[test]
    fn keys_print_as_namespace_slash_name() {
        assert_eq!(PodKey::new("default", "web.1").unwrap().to_string(), "default/web.1");
        PodKey::new("default", "../etc").unwrap_err();
        ServiceKey::new("default", "web.1").unwrap_err();
    }

    #[test]
    fn uid_cannot_leave_its_folder() {
        for bad in ["..", "a/b", "", "-x"] {
            PodUid::new(bad).unwrap_err();
        }
        PodUid::new("0b5c1a9e-6f6e-4c7e-9c5b-2a5f7f4f9a11").unwrap();
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json_like::<ContainerName>("UPPER").is_err());
    }

    fn serde_json_like<T: TryFrom<String>>(text: &str) -> Result<T, T::Error> {
        T::try_from(text.to_owned())
    }
}
