//! What each map is: the sizes that user space checks before it takes over a
//! pinned map, and the words of `ebpf/README.md`.

use crate::{
    Addr, Affinity, AffinityKey, Backend, Bandwidth, BandwidthKey, Device, DeviceCounters, Flow, FlowKey, FragmentKey,
    FragmentPorts, Frontend, FrontendKey, LocalPod, NetworkKey, ServiceCounterKey, ServiceCounters, Settings, SlotBlock,
    SlotKey, SocketService, SourceRangeKey, UdpPeer, UdpPeerKey,
};

/// Map types that are used, by the kernel's number.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`, memory taken as entries come.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_HASH`, memory taken as entries come.
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`: the kernel takes all memory at once.
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
}

/// One map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapSpec {
    /// Name, also of the pin.
    pub name: &'static str,
    /// Type.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries when the configuration says nothing.
    pub entries: u32,
    /// Key, value and what for.
    pub purpose: &'static str,
}

macro_rules! maps {
    ($($name:ident: $kind:ident<$key:ty, $value:ty>[$entries:expr] $purpose:literal;)+) => {
        /// Every map.
        pub const MAPS: &[MapSpec] = &[$(MapSpec {
            name: stringify!($name),
            kind: MapKind::$kind,
            key_size: size_of::<$key>() as u32,
            value_size: size_of::<$value>() as u32,
            entries: $entries,
            purpose: $purpose,
        },)+];

        /// Default number of entries of each map.
        pub mod entries {
            $(#[doc = $purpose] pub const $name: u32 = $entries;)+
        }
    };
}

maps! {
    FRONTENDS: Hash<FrontendKey, Frontend>[262_144] "Service address, port and protocol to the service's current lists of slots.";
    SLOTS: Hash<SlotKey, SlotBlock>[524_288] "Service, epoch and block to 16 backend ids.";
    BACKENDS: Hash<u32, Backend>[524_288] "Backend id to address, port and state.";
    SOURCE_RANGES: LpmTrie<SourceRangeKey, u32>[65_536] "Service and network to 1: clients that a load balancer's address serves.";
    CLUSTER_IPS: Hash<Addr, u32>[131_072] "Address of a service inside the cluster to 1: a port that it does not have is refused.";
    GENERATION: Array<u32, u64>[1] "Odd while user space changes the service tables; readers that met a change read again.";
    NODE_PORTS: Array<u32, u64>[1_024] "One bit a port: some frontend is a NodePort or a host port on it.";
    NODE_ADDRS: Hash<Addr, u32>[16_384] "Addresses of the node, and of other nodes, to what is served there.";
    NETNS: Hash<u64, u32>[4_096] "Cookie of a network namespace to whose it is: sockets of others are left alone.";
    DEVICES: Hash<u32, Device>[64] "Interface index of an uplink or tunnel to the addresses that translated packets get.";
    SETTINGS: Array<u32, Settings>[1] "What the node was told to do.";
    NON_MASQUERADE: LpmTrie<NetworkKey, u32>[16_384] "Network to 1: what pods reach with their own address.";
    PODS: Hash<Addr, LocalPod>[4_096] "Address of a local pod to its interface and hardware addresses.";
    FLOWS: LruHash<FlowKey, Flow>[131_072] "Both ends of a flow to its service and backend, what was counted, and its translation.";
    FRAGMENTS: LruHash<FragmentKey, FragmentPorts>[8_192] "Fragmented datagram to the ports that its first fragment told.";
    UDP_PEERS: LruHash<UdpPeerKey, UdpPeer>[32_768] "Socket cookie and service (or backend) to backend (or service), for unconnected UDP sockets.";
    SOCKETS: LruHash<u64, SocketService>[65_536] "Socket cookie to the service that the socket asked for and the backend that it got.";
    AFFINITY: LruHash<AffinityKey, Affinity>[65_536] "Client and service to the backend that the client keeps.";
    BANDWIDTH: Hash<BandwidthKey, Bandwidth>[4_096] "Pod's interface and direction to the rate it is held to.";
    DEVICE_COUNTERS: PerCpuHash<u32, DeviceCounters>[4_096] "Host-side interface index to packets, bytes, connections and drops.";
    SERVICE_COUNTERS: PerCpuHash<ServiceCounterKey, ServiceCounters>[65_536] "Service and backend to connections, packets and bytes.";
    FAULTS: PerCpuArray<u32, u64>[16] "What was not done for want of room, by the number of the fault.";
}

/// Words of [`MAPS`]' `NODE_PORTS` cover 64 ports each.
pub const NODE_PORT_WORD_BITS: u32 = 64;
