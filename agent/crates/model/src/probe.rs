//! Probes as wanted: ports resolved to numbers, durations in seconds as the API has them.

use serde::{Deserialize, Serialize};

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProbeKind {
    /// Until it succeeds the other two wait; its failure kills the container.
    Startup,
    /// Its failure kills the container.
    Liveness,
    /// Its failure takes the container out of Services.
    Readiness,
}

impl ProbeKind {
    /// As the kubelet's events spell it: "Liveness probe failed: …".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// `http` or `https` (certificates are not verified, as in the kubelet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpScheme {
    /// Plain.
    Http,
    /// TLS, unverified.
    Https,
}

/// How to probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAction {
    /// Run in the container; success is exit code 0.
    Exec {
        /// Argument vector, no shell.
        command: Vec<String>,
    },
    /// GET; success is a status from 200 to 399.
    HttpGet {
        /// http or https.
        scheme: HttpScheme,
        /// `None` is the pod's address.
        host: Option<String>,
        /// Resolved port.
        port: u16,
        /// Path and query, starting with '/'.
        path: String,
        /// Extra request headers.
        headers: Vec<(String, String)>,
    },
    /// Success is an accepted connection.
    TcpSocket {
        /// `None` is the pod's address.
        host: Option<String>,
        /// Resolved port.
        port: u16,
    },
}

/// One probe with the API's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// How to probe.
    pub action: ProbeAction,
    /// Seconds after the container's start before the first probe.
    pub initial_delay_secs: u32,
    /// Seconds between probes, at least 1; default 10.
    pub period_secs: u32,
    /// Seconds until a probe counts as failed, at least 1; default 1.
    pub timeout_secs: u32,
    /// Successes in a row that count as success; default 1.
    pub success_threshold: u32,
    /// Failures in a row that count as failure; default 3.
    pub failure_threshold: u32,
    /// Overrides the pod's grace period when this probe kills.
    pub termination_grace_secs: Option<u64>,
}
