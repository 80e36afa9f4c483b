//! The Services compiler: Services and their endpoints become the entries of the
//! eBPF maps, and a change becomes an ordered plan of single map operations.
//!
//! ```text
//!  ServiceManifest ─▶ Service ─┐
//!                              ├─▶ compile ─▶ LbTables ─▶ diff ─▶ LbPlan(Vec<MapOp>)
//!  pods ─▶ Endpoint ───────────┘                 ▲ dump
//! ```
//!
//! Everything is a pure function of its arguments; nothing here touches the
//! kernel, the clock or the network.
#![forbid(unsafe_code)]

mod address;
mod diff;
mod endpoint;
mod tables;

pub use address::{IpFamily, addr_bytes, addr_ip, frontend_key, port_bytes, port_number, protocol_of};
pub use diff::diff;
pub use endpoint::Endpoint;
pub use tables::{LbPlan, LbTables, MapOp};
