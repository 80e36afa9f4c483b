//! The maps; what each holds is said in `orlop_ebpf_abi::MAPS`.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuHashMap};
use orlop_ebpf_abi::{
    Addr, Backend, DeviceCounters, Flow, FlowKey, Frontend, FrontendKey, LocalPod, ServiceCounterKey, ServiceCounters,
    SlotKey, SocketService, UdpPeer, UdpPeerKey, entries,
};

#[map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend> = HashMap::with_max_entries(entries::FRONTENDS, BPF_F_NO_PREALLOC);
#[map]
pub static SLOTS: HashMap<SlotKey, u32> = HashMap::with_max_entries(entries::SLOTS, BPF_F_NO_PREALLOC);
#[map]
pub static BACKENDS: HashMap<u32, Backend> = HashMap::with_max_entries(entries::BACKENDS, BPF_F_NO_PREALLOC);
#[map]
pub static GENERATION: Array<u64> = Array::with_max_entries(entries::GENERATION, 0);
#[map]
pub static NODE_PORTS: Array<u64> = Array::with_max_entries(entries::NODE_PORTS, 0);
#[map]
pub static NODE_ADDRS: HashMap<Addr, u8> = HashMap::with_max_entries(entries::NODE_ADDRS, BPF_F_NO_PREALLOC);
#[map]
pub static PODS: HashMap<Addr, LocalPod> = HashMap::with_max_entries(entries::PODS, BPF_F_NO_PREALLOC);
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(entries::FLOWS, 0);
#[map]
pub static UDP_PEERS: LruHashMap<UdpPeerKey, UdpPeer> = LruHashMap::with_max_entries(entries::UDP_PEERS, 0);
#[map]
pub static DEVICE_COUNTERS: PerCpuHashMap<u32, DeviceCounters> =
    PerCpuHashMap::with_max_entries(entries::DEVICE_COUNTERS, BPF_F_NO_PREALLOC);
#[map]
pub static SERVICE_COUNTERS: PerCpuHashMap<ServiceCounterKey, ServiceCounters> =
    PerCpuHashMap::with_max_entries(entries::SERVICE_COUNTERS, BPF_F_NO_PREALLOC);
#[map]
pub static SOCKETS: LruHashMap<u64, SocketService> = LruHashMap::with_max_entries(entries::SOCKETS, 0);
