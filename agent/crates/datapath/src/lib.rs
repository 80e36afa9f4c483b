//! The node's data path: loads the eBPF programs, pins maps and links below one
//! folder, attaches, feeds the service tables and reads the counters.
//!
//! ```text
//!  lb::MapOp ─▶ apply ─▶ FRONTENDS SLOTS BACKENDS ◀─ connect4/6, sendmsg4/6, uplink_in
//!  attach_pod ─▶ PODS, filters pod_from/pod_to ─▶ DEVICE_COUNTERS ─▶ pod_counters
//! ```
//!
//! Maps and links are pinned, so they work on while no agent runs. An agent that
//! starts again takes the maps with all that is in them and puts its own programs
//! under the pinned links and into the pods' filters, one atomic step each: no
//! connection meets a gap.
//!
//! Every call that attaches to a device works in the network namespace of the
//! calling thread. Calls block for at most some system calls a table entry.

mod attach;
mod bandwidth;
mod conntrack;
mod counters;
mod destroy;
mod error;
mod faults;
mod filters;
mod layout;
mod load;
mod netns;
mod node;
mod pods;
mod program;
mod sys;
mod table;
mod tables;
mod timing;
mod walk;
mod xdp;

pub use conntrack::{CollectReport, FlowEntry, FlowKind, monotonic_s};
pub use counters::{PodCounters, ServiceBackend, ServiceCounters};
pub use error::Error;
pub use faults::TableUse;
pub use load::{Config, Datapath, remove_all};
pub use netns::NetnsKind;
pub use node::{NodeDevice, NodeSettings};
pub use orlop_ebpf_abi::{DropReason, Fault, Traffic};
pub use pods::PodAttachment;
pub use program::{Hook, Program};
pub use tables::ApplyReport;
pub use timing::ProgramSize;
pub use walk::{TableCursor, TableElement};
pub use xdp::Acceleration;
