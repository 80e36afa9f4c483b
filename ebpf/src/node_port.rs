//! tcx on uplinks: NodePorts, with our own connection table.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::counter::{self, Device};
use crate::packet;
use crate::pod::NEXT;

/// ingress = from outside.
#[classifier]
pub fn uplink_in(ctx: TcContext) -> i32 {
    let (len, ifindex, _) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.from(), len);
    NEXT
}

/// egress = to outside.
#[classifier]
pub fn uplink_out(ctx: TcContext) -> i32 {
    let (len, ifindex, _) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.to(), len);
    NEXT
}
