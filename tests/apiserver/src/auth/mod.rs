//! Who asks, and what they may do.

mod authority;
mod authorizer;
mod restriction;
mod token;

pub(crate) use authority::{Authority, read_request, user_of};
pub(crate) use authorizer::{Attributes, authorize, denied};
pub(crate) use restriction::{admit_on_node, node_of, token_refused};
pub(crate) use token::{Bound, Tokens, suffix, uuid};

/// A user, as authentication found it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// `system:node:n1`, `system:serviceaccount:NAMESPACE:NAME`, …
    pub name: String,
    /// Without `system:authenticated`, which everybody but `system:anonymous` has.
    pub groups: Vec<String>,
    /// The unique id of a service account.
    pub uid: String,
}

impl User {
    /// A user by name and groups.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|&group| group.into()).collect(), uid: String::new() }
    }

    pub(crate) fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// Whoever holds the server: allowed everything.
    pub(crate) fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
            || (group == "system:authenticated" && self.name != "system:anonymous")
    }
}

/// Something that users besides administrators and nodes may do. Empty fields match all.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// A user's name, or a group's.
    pub subject: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: String,
    /// `pods`, `nodes/proxy`; or a path when it starts with `/`.
    pub resource: String,
    /// The namespace.
    pub namespace: String,
}
