//! Types that the eBPF programs and user space both read: map keys and values and
//! the one table of drop reasons.
//!
//! Rules: `repr(C)`, padding named and zero, size asserted. Addresses are 16
//! bytes in network order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 2.5.5.2), so every
//! table serves both families. Ports are two bytes in network order (`[u8; 2]`),
//! so that no side can mix the order up. Everything else is host order.
#![no_std]

mod counter;
mod drop;
mod flow;
mod map;
mod node;
mod service;

pub use counter::{DeviceCounters, LocalPod, ServiceCounterKey, ServiceCounters, Traffic};
pub use drop::{DROP_REASONS_MAX, DropReason, Fault};
pub use flow::{
    End, Flow, FlowFlags, FlowKey, FragmentKey, FragmentPorts, SocketService, SocketState, Timeouts, UdpPeer,
    UdpPeerKey,
};
pub use map::{MAPS, MapKind, MapSpec, NODE_PORT_WORD_BITS, entries};
pub use node::{
    Bandwidth, BandwidthKey, Device, DeviceFlags, NetnsKind, NodeAddrFlags, Settings, SettingsFlags,
};
pub use service::{
    Addr, Affinity, AffinityKey, Backend, BackendState, Frontend, FrontendFlags, FrontendKey, NetworkKey, Port,
    SLOTS_A_BLOCK, SlotBlock, SlotKey, SourceRangeKey,
};
