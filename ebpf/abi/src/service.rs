//! The service tables.
//!
//! ```text
//!  FRONTENDS[addr, port, proto] ─▶ {service, epoch, count}
//!  SLOTS[service, epoch, 0..count] ─▶ backend id
//!  BACKENDS[backend id] ─▶ {addr, port, state}
//! ```
//!
//! A change writes new backends, then all slots under a new epoch, then replaces
//! the frontend (one atomic element update: readers see the old set or the new),
//! then removes the old epoch's slots and unused backends. A program that read the
//! old frontend and no longer finds its slot or its backend reads the frontend again.

/// An address, network order, IPv4 mapped into IPv6.
pub type Addr = [u8; 16];
/// A port, network order.
pub type Port = [u8; 2];

/// Key of `FRONTENDS`: what a client connects to. An all-zero mapped address
/// (`::ffff:0.0.0.0` or `::`) with [`FrontendFlags::NODE_PORT`] stands for every
/// address of the node.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendKey {
    /// Service address.
    pub addr: Addr,
    /// Service port.
    pub port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
}

/// Bits of [`Frontend::flags`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrontendFlags;

impl FrontendFlags {
    /// A NodePort: matched on every node address.
    pub const NODE_PORT: u32 = 1;
}

/// Value of `FRONTENDS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Number of the service port: one per (Service, port, address family), never 0.
    pub service: u32,
    /// Which set of slots holds.
    pub epoch: u32,
    /// How many slots; 0 refuses connections.
    pub count: u32,
    /// [`FrontendFlags`].
    pub flags: u32,
}

/// Key of `SLOTS`; the value is a backend id (`u32`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotKey {
    /// [`Frontend::service`].
    pub service: u32,
    /// [`Frontend::epoch`].
    pub epoch: u32,
    /// 0 to [`Frontend::count`] - 1.
    pub index: u32,
}

/// Values of [`Backend::state`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BackendState {
    /// Takes new connections.
    Active = 0,
    /// Keeps its connections, takes no new ones.
    Draining = 1,
}

/// Value of `BACKENDS`, by backend id (`u32`, never 0).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Endpoint address.
    pub addr: Addr,
    /// Endpoint port.
    pub port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// [`BackendState`] as a number.
    pub state: u8,
}

const _: () = assert!(size_of::<FrontendKey>() == 20 && size_of::<Frontend>() == 16);
const _: () = assert!(size_of::<SlotKey>() == 12 && size_of::<Backend>() == 20);
