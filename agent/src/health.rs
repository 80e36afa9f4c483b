//! The health checks that load balancers ask for, as kube-proxy answers them.
//!
//! ```text
//!   Services ──(port, local endpoints)──▶ ports ──▶ one listener a Service and address: 200 or 503
//!   Services ──(tables written?)──┐
//!   the Node object ──────────────┴─────▶ proxy ──▶ /healthz, /livez on one address
//! ```
//!
//! What is answered is decided in `answer` and `proxy`, which are pure; `http` listens.

mod answer;
mod http;
mod ports;
mod proxy;

pub(crate) use ports::follow as follow_ports;
pub(crate) use proxy::{TableHealth, serve as serve_proxy};

/// The Services that want a health check, by what is asked.
pub(crate) use ports::{HealthCheck, HealthChecks};
