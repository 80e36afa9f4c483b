//! What the programs know of the node.

use crate::Addr;

/// Bits of `NODE_ADDRS`' values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeAddrFlags;

impl NodeAddrFlags {
    /// An address of this node.
    pub const OWN: u32 = 1;
    /// NodePorts are served on it (`nodePortAddresses`).
    pub const NODE_PORTS: u32 = 1 << 1;
    /// An address of another node: NodePorts on it arrive here when that node forwards them with DSR.
    pub const PEER: u32 = 1 << 2;
}

/// Values of `NETNS`, by the cookie of a network namespace (`SO_NETNS_COOKIE`): the kind, and above
/// [`Self::DEVICE_SHIFT`] bits the host-side interface index of a pod, with which it is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetnsKind;

impl NetnsKind {
    /// The node's: loopback frontends (host ports, NodePorts) are its only.
    pub const NODE: u32 = 1;
    /// A pod's.
    pub const POD: u32 = 2;
    /// Bits of the kind.
    pub const MASK: u32 = 0xff;
    /// Where the interface index begins.
    pub const DEVICE_SHIFT: u32 = 8;
}

/// Value of `DEVICES`, by interface index: a device by which packets leave the node.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Source of translated IPv4 packets that leave by it; zero: none.
    pub snat_v4: Addr,
    /// Source of translated IPv6 packets that leave by it; zero: none.
    pub snat_v6: Addr,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// [`DeviceFlags`].
    pub flags: u32,
}

/// Bits of [`Device::flags`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceFlags;

impl DeviceFlags {
    /// Leads to other nodes' pods only: nothing is masqueraded on it.
    pub const TUNNEL: u32 = 1;
    /// ARP and neighbour solicitations for local pods' addresses are answered on it.
    pub const ANSWER_NEIGHBOURS: u32 = 1 << 1;
}

/// The one element of `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// [`SettingsFlags`].
    pub flags: u32,
    /// First source port of translated packets.
    pub snat_port_first: u16,
    /// How many there are from there on.
    pub snat_ports: u16,
}

/// Bits of [`Settings::flags`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SettingsFlags;

impl SettingsFlags {
    /// Connections that pods open to addresses outside `NON_MASQUERADE` get the node's address.
    pub const MASQUERADE: u32 = 1;
}

/// Key of `BANDWIDTH`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BandwidthKey {
    /// Host-side interface index of the pod.
    pub ifindex: u32,
    /// [`Self::FROM`] or [`Self::TO`].
    pub direction: u32,
}

impl BandwidthKey {
    /// What the pod sends.
    pub const FROM: u32 = 0;
    /// What it receives.
    pub const TO: u32 = 1;
}

/// Value of `BANDWIDTH`: the generic cell rate algorithm (ITU-T I.371).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// Nanoseconds of the monotonic clock at which the bytes so far would have passed at the rate.
    pub arrival_ns: u64,
    /// How far ahead of the clock that may be, in nanoseconds.
    pub burst_ns: u64,
    /// Nanoseconds a byte takes, times 2^20.
    pub ns_per_byte_20: u64,
}

const _: () = assert!(size_of::<Device>() == 44 && size_of::<Settings>() == 8);
const _: () = assert!(size_of::<BandwidthKey>() == 8 && size_of::<Bandwidth>() == 24);
