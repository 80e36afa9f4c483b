//! The service tables.
//!
//! ```text
//!  FRONTENDS[addr, port, proto] ─▶ {service, epoch, first, count, local, maglev, …}
//!  SLOTS[service, epoch, index / 16] ─▶ 16 backend ids
//!  BACKENDS[backend id] ─▶ {addr, port, state}
//! ```
//!
//! A service's slots are one list that serves both traffic policies:
//!
//! ```text
//!  0            first         local              first + count     (next block)
//!  │ local only   │ local, cluster │ cluster only      │ … 0 …      │ Maglev table │
//!  └────────── the local set ──────┘                                └── maglev ────┘
//!                 └────────── the cluster set ─────────┘
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
    /// A NodePort: matched on every node address that serves them.
    pub const NODE_PORT: u32 = 1;
    /// An address outside the cluster's own ranges: a load balancer's, an external one.
    pub const EXTERNAL: u32 = 1 << 1;
    /// Clients inside use the local set (`internalTrafficPolicy: Local`).
    pub const INTERNAL_LOCAL: u32 = 1 << 2;
    /// Clients outside use the local set and keep their address (`externalTrafficPolicy: Local`).
    pub const EXTERNAL_LOCAL: u32 = 1 << 3;
    /// Only clients of `SOURCE_RANGES` are served.
    pub const SOURCE_RANGES: u32 = 1 << 4;
    /// Replies of a backend on another node go to the client directly.
    pub const DSR: u32 = 1 << 5;
    /// A pod's host port: one backend, on this node.
    pub const HOST_PORT: u32 = 1 << 6;
}

/// Value of `FRONTENDS`. Both sets empty: connections are refused. The set of the
/// policy empty and the other not: they are dropped, another node may serve them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Frontend {
    /// Number of the service port: one per (Service, port, address family), never 0.
    pub service: u32,
    /// Which list of slots holds.
    pub epoch: u32,
    /// Index of the cluster set's first slot.
    pub first: u32,
    /// Slots of the cluster set.
    pub count: u32,
    /// Slots of the local set, which begins at 0.
    pub local: u32,
    /// Entries of the Maglev table over the cluster set, from [`Self::maglev_first`] on; 0: backends are chosen at
    /// random.
    pub maglev: u32,
    /// `sessionAffinity: ClientIP`: seconds that a client keeps its backend; 0: none.
    pub affinity_s: u32,
    /// [`FrontendFlags`].
    pub flags: u32,
}

impl Frontend {
    /// Slots of both sets, without the Maglev table.
    #[must_use]
    #[inline(always)]
    pub const fn listed(&self) -> u32 {
        let end = self.first + self.count;
        if end > self.local { end } else { self.local }
    }

    /// Index of the Maglev table's first entry: the block after the sets'.
    #[must_use]
    #[inline(always)]
    pub const fn maglev_first(&self) -> u32 {
        self.listed().div_ceil(SLOTS_A_BLOCK) * SLOTS_A_BLOCK
    }

    /// Elements of `SLOTS` that it uses.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        (self.maglev_first() + self.maglev).div_ceil(SLOTS_A_BLOCK)
    }
}

/// Slots that one element of `SLOTS` holds.
pub const SLOTS_A_BLOCK: u32 = 16;

/// Key of `SLOTS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotKey {
    /// [`Frontend::service`].
    pub service: u32,
    /// [`Frontend::epoch`].
    pub epoch: u32,
    /// Index of a slot divided by [`SLOTS_A_BLOCK`].
    pub block: u32,
}

/// Value of `SLOTS`: backend ids, 0 after the last.
pub type SlotBlock = [u32; SLOTS_A_BLOCK as usize];

/// Key of `SOURCE_RANGES`, a longest-prefix-match trie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceRangeKey {
    /// Bits that count: 32 for the service and those of the mapped address (IPv4's length plus 96).
    pub bits: u32,
    /// [`Frontend::service`], network order, so that its bits come in order.
    pub service: [u8; 4],
    /// The network.
    pub addr: Addr,
}

impl SourceRangeKey {
    /// Bits of a key before the address's.
    pub const SERVICE_BITS: u32 = 32;
}

/// Key of a trie over addresses alone (`NON_MASQUERADE`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetworkKey {
    /// Bits of the mapped address that count (IPv4's length plus 96).
    pub bits: u32,
    /// The network.
    pub addr: Addr,
}

/// Key of `AFFINITY`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AffinityKey {
    /// The client's address; of a socket here its network namespace's cookie as `0100::cookie` (RFC 6666's discard
    /// prefix, nobody's address).
    pub client: Addr,
    /// [`Frontend::service`].
    pub service: u32,
}

/// Value of `AFFINITY`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// Backend id.
    pub backend: u32,
    /// Seconds of the monotonic clock at the client's last connection.
    pub seen_s: u32,
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

const _: () = assert!(size_of::<FrontendKey>() == 20 && size_of::<Frontend>() == 32);
const _: () = assert!(size_of::<SlotKey>() == 12 && size_of::<Backend>() == 20);
const _: () = assert!(size_of::<SourceRangeKey>() == 24 && size_of::<NetworkKey>() == 20);
const _: () = assert!(size_of::<AffinityKey>() == 20 && size_of::<Affinity>() == 8);
