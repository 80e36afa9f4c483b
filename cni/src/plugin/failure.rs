//! How the plugin fails: CNI's error document and its codes.

use super::version::Version;
use crate::CniError;
use serde_json::json;

/// What an error's number means. Up to 99 they are the CNI specification's (8 is libcni's
/// `ErrInvalidNetNS`), from 100 on our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration's `cniVersion` is none of ours, or too old for the command.
    IncompatibleVersion = 1,
    /// The configuration asks for what we do not do; key and value are in the message.
    UnsupportedField = 2,
    /// The container's namespace is gone, and nothing is left to clean up.
    UnknownContainer = 3,
    /// An environment variable is missing or wrong; its name is in the message.
    InvalidEnvironment = 4,
    /// Standard input or the lease file could not be read.
    Io = 5,
    /// The configuration is not JSON, or not of its type.
    Decoding = 6,
    /// The configuration is understood and makes no sense.
    InvalidConfig = 7,
    /// `CNI_NETNS` is no network namespace, or the node's own.
    InvalidNetns = 8,
    /// The same call may succeed later.
    TryAgainLater = 11,
    /// STATUS: no container can be added.
    NotAvailable = 50,
    /// STATUS: nor are those that there are well connected.
    LimitedConnectivity = 51,
    /// The container has an interface or a route in the way.
    InTheWay = 100,
    /// No address is left, or the one asked for is not to be had.
    NoAddress = 101,
    /// CHECK: something is not as ADD left it.
    Differs = 102,
    /// The kernel refused a step.
    Kernel = 103,
}

impl Code {
    /// All, by number.
    pub const ALL: [Self; 15] = [
        Self::IncompatibleVersion,
        Self::UnsupportedField,
        Self::UnknownContainer,
        Self::InvalidEnvironment,
        Self::Io,
        Self::Decoding,
        Self::InvalidConfig,
        Self::InvalidNetns,
        Self::TryAgainLater,
        Self::NotAvailable,
        Self::LimitedConnectivity,
        Self::InTheWay,
        Self::NoAddress,
        Self::Differs,
        Self::Kernel,
    ];

    /// What it means, for the table in cni/README.md.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::IncompatibleVersion => "`cniVersion` is none of ours, or has no such command",
            Self::UnsupportedField => {
                "the configuration or the runtime asks for what is not done here; key and value are named"
            }
            Self::UnknownContainer => "the container's namespace is gone, and nothing is left to clean up",
            Self::InvalidEnvironment => "an environment variable is missing or wrong; it is named",
            Self::Io => "standard input or the leases cannot be read or written",
            Self::Decoding => "the configuration is not JSON",
            Self::InvalidConfig => "the configuration makes no sense; the key is named",
            Self::InvalidNetns => "`CNI_NETNS` is no network namespace, or the node's own",
            Self::TryAgainLater => "the same call may succeed later: addresses rest for a minute after DEL",
            Self::NotAvailable => "STATUS: ADD cannot be served",
            Self::LimitedConnectivity => "STATUS: nor are the containers that there are well connected",
            Self::InTheWay => "the container has such an interface or such a route already",
            Self::NoAddress => "no address is left, or the one asked for is not to be had",
            Self::Differs => "CHECK: something is not as ADD left it; every difference is named",
            Self::Kernel => "the kernel refused a step; it is named",
        }
    }
}

/// A failed call, as it is told to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The number.
    pub code: Code,
    /// One line: what failed.
    pub message: String,
    /// Why, and what to do about it.
    pub details: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    /// A failed step of the network, with its chain of causes.
    pub(crate) fn of(error: &CniError) -> Self {
        let code = match error {
            CniError::Exhausted { cooling, .. } if *cooling > 0 => Code::TryAgainLater,
            CniError::HasOthers { .. } => Code::TryAgainLater,
            CniError::Exhausted { .. } | CniError::NotInRange { .. } | CniError::Taken { .. } => Code::NoAddress,
            CniError::NoCidr => Code::InvalidConfig,
            CniError::ReadLeases { .. } | CniError::DamagedLeases { .. } | CniError::WriteLeases { .. } => Code::Io,
            CniError::HostSide { .. }
            | CniError::PodSide { .. }
            | CniError::LinkGone { .. }
            | CniError::Node { .. }
            | CniError::Worker { .. } => Code::Kernel,
        };
        let message = match error {
            CniError::Exhausted { cidr, leased, cooling, capacity } => format!(
                "no address is left in {cidr}: {leased} of {capacity} are leased and {cooling} were released less than \
                 a minute ago"
            ),
            CniError::NoCidr => "podCIDRs is empty".to_owned(),
            other => other.to_string(),
        };
        let details = match error {
            CniError::Exhausted { .. } => {
                "add a range to podCIDRs, or run GC if containers died without DEL".to_owned()
            }
            CniError::HasOthers { .. } => "an ADD that was killed left them, and they are released now".to_owned(),
            other => causes(other),
        };
        Self { code, message, details }
    }

    /// The document for standard output.
    pub(crate) fn document(&self, version: Version) -> String {
        let mut document = json!({ "cniVersion": version.text(), "code": self.code as u32, "msg": self.message });
        if !self.details.is_empty() {
            document["details"] = json!(self.details);
        }
        document.to_string()
    }
}

/// What lies below an error, outermost first.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut at = error.source();
    while let Some(cause) = at {
        texts.push(cause.to_string());
        at = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn the_readme_has_every_number() {
        let readme = include_str!("../../README.md");
        for code in Code::ALL {
            let row = format!("| {} | {} |", code as u32, code.meaning());
            assert!(readme.contains(&row), "cni/README.md lacks the row\n{row}");
        }
    }
}
