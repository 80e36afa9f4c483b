//! The maps; what each holds is said in `orlop_ebpf_abi::MAPS`.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap};
use orlop_ebpf_abi::{
    Addr, Affinity, AffinityKey, Backend, Bandwidth, BandwidthKey, Device, DeviceCounters, Flow, FlowKey, FragmentKey,
    FragmentPorts, Frontend, FrontendKey, LocalPod, ServiceCounterKey, ServiceCounters, Settings, SlotBlock, SlotKey,
    SocketService, UdpPeer, UdpPeerKey, entries,
};

#[map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend> = HashMap::with_max_entries(entries::FRONTENDS, BPF_F_NO_PREALLOC);
#[map]
pub static SLOTS: HashMap<SlotKey, SlotBlock> = HashMap::with_max_entries(entries::SLOTS, BPF_F_NO_PREALLOC);
#[map]
pub static BACKENDS: HashMap<u32, Backend> = HashMap::with_max_entries(entries::BACKENDS, BPF_F_NO_PREALLOC);
/// The key's data are the service and the address of [`orlop_ebpf_abi::SourceRangeKey`].
#[map]
pub static SOURCE_RANGES: LpmTrie<[u8; 20], u32> = LpmTrie::with_max_entries(entries::SOURCE_RANGES, 0);
#[map]
pub static CLUSTER_IPS: HashMap<Addr, u32> = HashMap::with_max_entries(entries::CLUSTER_IPS, BPF_F_NO_PREALLOC);
#[map]
pub static GENERATION: Array<u64> = Array::with_max_entries(entries::GENERATION, 0);
#[map]
pub static NODE_PORTS: Array<u64> = Array::with_max_entries(entries::NODE_PORTS, 0);
#[map]
pub static NODE_ADDRS: HashMap<Addr, u32> = HashMap::with_max_entries(entries::NODE_ADDRS, BPF_F_NO_PREALLOC);
#[map]
pub static NETNS: HashMap<u64, u32> = HashMap::with_max_entries(entries::NETNS, BPF_F_NO_PREALLOC);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(entries::DEVICES, BPF_F_NO_PREALLOC);
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(entries::SETTINGS, 0);
#[map]
pub static NON_MASQUERADE: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(entries::NON_MASQUERADE, 0);
#[map]
pub static PODS: HashMap<Addr, LocalPod> = HashMap::with_max_entries(entries::PODS, BPF_F_NO_PREALLOC);
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(entries::FLOWS, 0);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> = LruHashMap::with_max_entries(entries::FRAGMENTS, 0);
#[map]
pub static UDP_PEERS: LruHashMap<UdpPeerKey, UdpPeer> = LruHashMap::with_max_entries(entries::UDP_PEERS, 0);
#[map]
pub static SOCKETS: LruHashMap<u64, SocketService> = LruHashMap::with_max_entries(entries::SOCKETS, 0);
#[map]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(entries::AFFINITY, 0);
#[map]
pub static BANDWIDTH: HashMap<BandwidthKey, Bandwidth> =
    HashMap::with_max_entries(entries::BANDWIDTH, BPF_F_NO_PREALLOC);
#[map]
pub static DEVICE_COUNTERS: PerCpuHashMap<u32, DeviceCounters> =
    PerCpuHashMap::with_max_entries(entries::DEVICE_COUNTERS, BPF_F_NO_PREALLOC);
#[map]
pub static SERVICE_COUNTERS: PerCpuHashMap<ServiceCounterKey, ServiceCounters> =
    PerCpuHashMap::with_max_entries(entries::SERVICE_COUNTERS, BPF_F_NO_PREALLOC);
#[map]
pub static FAULTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(entries::FAULTS, 0);
