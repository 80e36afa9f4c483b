//! Direct server return: the packet goes to the backend's node as it came, and that
//! node's replies go to the client with the service's address, past this node.

use aya_ebpf::bindings::{__sk_buff, BPF_ANY};
use orlop_ebpf_abi::{Fault, FlowFlags, FrontendFlags, NodeAddrFlags};

use crate::counter;
use crate::flow;
use crate::forward;
use crate::maps::FLOWS;
use crate::open;
use crate::pair::CLAIMED;
use crate::pod;
use crate::service::Kind;
use crate::work::{self, Work};

/// Is one of this node's own backends to be taken, after a choice of this kind?
/// A NodePort of another node's address can only have come from there. Which backend
/// that node chose is known when all choose by the same Maglev table.
#[inline(always)]
pub fn is_for_here(work: Work, kind: u32) -> bool {
    let packet = &work.packet;
    if kind == Kind::NotAService as u32 {
        return open::node_addr(packet.dst) & NodeAddrFlags::PEER != 0;
    }
    if kind != Kind::Backend as u32 || work.flags & FrontendFlags::DSR == 0 || is_here(work) {
        return false;
    }
    open::packet_service() & open::CHOICE_DIFFERS != 0 && !open::is_own(packet.dst)
}

#[inline(always)]
fn is_here(work: Work) -> bool {
    pod::local(work.to.dst).is_some() || open::is_own(work.to.dst)
}

/// May a packet of a connection that is not known here be forwarded to the chosen
/// backend's node? All nodes choose alike, so it is the one that has the connection.
#[inline(always)]
pub fn may_join(work: Work) -> bool {
    !is_here(work)
}

/// Enters the flow: which node has it.
#[inline(always)]
pub fn enter(mut work: Work) -> u32 {
    let (key, src_hi) = flow::key_of(&work.packet.ends(), work.packet.proto);
    let flags = FlowFlags::DSR | flow::initiator_bit(src_hi);
    let mut entry = flow::plain(work.service, work.backend, flags, work.packet.seq);
    entry.nat = flow::end(work.to.dst, work.to.dst_port);
    work.flow = entry;
    counter::expect(FLOWS.insert(&key.0, &entry, u64::from(BPF_ANY)), Fault::FlowInsert);
    CLAIMED
}

/// Sends the packet to the node of the backend in `work.to`. The verdict.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_to_peer(skb: *mut __sk_buff) -> i32 {
    let Some(mut work) = work::here() else { return pod::SHOT };
    let backend = work.to.dst;
    work.to = work.packet.ends();
    let reason = forward::packet_route(skb, backend.0, backend.1);
    if reason == 0 { forward::packet_send(skb) } else { work::drop(skb, work.hook, reason) }
}
