//! Counters and the table of local pods.

use crate::DROP_REASONS_MAX;

/// One direction of a pod's traffic.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets as the interface counts them (a GSO packet is one).
    pub packets: u64,
    /// Bytes with the Ethernet header, as the interface counts them.
    pub bytes: u64,
    /// New connections: TCP SYNs that are no retransmission, first packets of UDP flows.
    pub connections: u64,
}

/// Value of `DEVICE_COUNTERS`, per CPU, by host-side interface index. For a pod
/// `from` is what it sent and `to` what was delivered to it; for an uplink `from`
/// is what arrived at the node and `to` what left it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceCounters {
    /// From the device. Includes what was then dropped.
    pub from: Traffic,
    /// To the device.
    pub to: Traffic,
    /// Drops of packets from the device by [`crate::DropReason`].
    pub drops_from: [u64; DROP_REASONS_MAX],
    /// Drops of packets to the device by [`crate::DropReason`].
    pub drops_to: [u64; DROP_REASONS_MAX],
    /// ICMP errors from and to the device. An error about a translated flow is
    /// passed on as it is.
    pub icmp_errors: [u64; 2],
}

/// Key of `SERVICE_COUNTERS`. Backend 0 counts the connections that were refused
/// because the service had none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceCounterKey {
    /// Service number.
    pub service: u32,
    /// Backend id.
    pub backend: u32,
}

/// Value of `SERVICE_COUNTERS`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceCounters {
    /// Connections sent to the backend, counted when it is chosen.
    pub connections: u64,
    /// Packets to the backend.
    pub packets_to: u64,
    /// Bytes to the backend.
    pub bytes_to: u64,
    /// Packets from the backend.
    pub packets_from: u64,
    /// Bytes from the backend.
    pub bytes_from: u64,
}

/// Value of `PODS`, by pod address: how to reach a local pod.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalPod {
    /// Host-side interface index.
    pub ifindex: u32,
    /// Hardware address of the pod's interface.
    pub pod_mac: [u8; 6],
    /// Hardware address of the host's side.
    pub host_mac: [u8; 6],
}

const _: () = assert!(size_of::<DeviceCounters>() == 48 + 2 * 8 * DROP_REASONS_MAX + 16);
const _: () = assert!(size_of::<ServiceCounters>() == 40 && size_of::<LocalPod>() == 16);
