//! Image references with Docker's defaults.

use crate::{Digest, ImageError};
use orlop_model::ImageRef;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of registry and repository together, as distribution's reference package limits them.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a tag, from the same grammar.
const TAG_BYTES_MAX: usize = 128;

/// An image reference in full: registry, repository, and a tag, a digest or both.
///
/// `busybox` is `docker.io/library/busybox:latest`. A first part counts as a
/// registry when it holds a '.' or ':' or is `localhost`. `latest` is filled in
/// only when there is no digest. (distribution/reference, `ParseDockerRef`.)
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as a pod writes it.
    ///
    /// # Errors
    /// [`ImageError::Reference`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        Self::read(text).map_err(|problem| ImageError::Reference { text: text.to_owned(), problem })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|_| "has a digest that is not sha256: and 64 digits")?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A ':' after the last '/' starts a tag; one before it a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("has a tag that is not 1 to 128 letters, digits, '_', '.' or '-'");
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("docker.io", name),
        };
        if !is_registry(registry) {
            return Err("has a registry that is no host name with an optional port");
        }
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let repository = match registry {
            "docker.io" if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        if let Some(problem) = repository.split('/').find_map(component_problem) {
            return Err(problem);
        }
        if registry.len() + repository.len() + 1 > NAME_BYTES_MAX {
            return Err("is longer than 255 characters");
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Host and optional port, for example `docker.io`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }
    /// Path in the registry, for example `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }
    /// The tag; `None` only beside a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    /// The digest, if one was asked for.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same name under another tag, without a digest.
    ///
    /// # Errors
    /// [`ImageError::Reference`] when the text is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ImageError> {
        if !is_tag(tag) {
            return Err(ImageError::Reference { text: tag.to_owned(), problem: "is no tag" });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// What a pull of this reference is called: beside a digest a tag says nothing,
    /// and is left out (distribution/reference, `ParseDockerRef`).
    #[must_use]
    pub(crate) fn pinned(&self) -> Self {
        Self { tag: self.tag.clone().filter(|_| self.digest.is_none()), ..self.clone() }
    }

    /// The same repository at a digest, without a tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// As `docker images` prints it: without `docker.io/` and `library/` where
    /// that still means the same.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let hub = full.strip_prefix("docker.io/").unwrap_or(&full);
        let official = hub.strip_prefix("library/").unwrap_or(hub);
        [official, hub]
            .into_iter()
            .find(|short| Self::parse(short).is_ok_and(|parsed| parsed == *self))
            .unwrap_or(&full)
            .to_owned()
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= TAG_BYTES_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'.' || c == b'-')
}

/// Host name or address, with an optional port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            edge(label.bytes().next())
                && edge(label.bytes().last())
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        }),
    };
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn component_problem(text: &str) -> Option<&'static str> {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edge = |c: Option<u8>| c.is_some_and(word);
    if text.is_empty() {
        return Some("has an empty part in its name");
    }
    if text.bytes().any(|c| c.is_ascii_uppercase()) {
        return Some("has upper-case letters in its name");
    }
    if !text.bytes().all(|c| word(c) || matches!(c, b'.' | b'_' | b'-')) {
        return Some("has a character in its name that is none of a-z 0-9 . _ -");
    }
    if !edge(text.bytes().next()) || !edge(text.bytes().last()) {
        return Some("has a part of its name that starts or ends with '.', '_' or '-'");
    }
    // Between words stand one '.', one or two '_', or any number of '-'.
    let bad_separator = text
        .split(|c: char| c.is_ascii_alphanumeric())
        .any(|s| !(matches!(s, "" | "." | "_" | "__") || s.bytes().all(|c| c == b'-')));
    bad_separator.then_some("has '.' and '_' side by side in its name")
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::parse(&text)
    }
}
impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}
impl TryFrom<&ImageRef> for Reference {
    type Error = ImageError;
    fn try_from(image: &ImageRef) -> Result<Self, ImageError> {
        Self::parse(image.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<&str, &str>) {
        match (Reference::parse(text), want) {
            (Ok(got), Ok(want)) => {
                assert_eq!(got.to_string(), want, "{text:?}");
                assert_eq!(Reference::parse(want).unwrap(), got, "canonical form of {text:?} is stable");
                assert_eq!(Reference::parse(&got.familiar()).unwrap(), got, "familiar form of {text:?} leads back");
            }
            (Err(got), Err(want)) => {
                assert!(got.to_string().contains(want), "{text:?}: {got} should say {want:?}");
            }
            (got, want) => panic!("{text:?}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn docker_defaults() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, want) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("reg.example:5000/a/b/c", "reg.example:5000/a/b/c:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("10.0.0.1/app:V_1.2-x", "10.0.0.1/app:V_1.2-x"),
            ("a.b/c--d/e__f.g", "a.b/c--d/e__f.g:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest"),
        ] {
            check(text, Ok(want));
        }
        check(&format!("busybox@{digest}"), Ok(&format!("docker.io/library/busybox@{digest}")));
        check(&format!("a.b/c:1@{digest}"), Ok(&format!("a.b/c:1@{digest}")));
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "empty part"),
            ("Busybox", "upper-case"),
            ("a//b", "empty part"),
            ("a/", "empty part"),
            ("busybox:", "tag"),
            ("busybox:-x", "tag"),
            ("busybox@sha256:12", "digest"),
            ("busybox@md5:12", "digest"),
            ("-a.b/c", "registry"),
            ("a.b:port/c", "registry"),
            ("a.b:99999/c", "registry"),
            ("../../etc", "registry"),
            ("a/../etc", "starts or ends"),
            ("a/b c", "character"),
            ("a._b", "side by side"),
            ("a___b", "side by side"),
            (&"x".repeat(256), "longer"),
            (&format!("a:{}", "x".repeat(129)), "tag"),
        ] {
            check(text, Err(why));
        }
    }
}
