//! cgroup_skb egress: the first packet of a translated socket tells the flow's
//! source, which connect() did not know yet.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_sk_storage_get};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use orlop_ebpf_abi::{SocketService, SocketState, UdpPeerKey};

use crate::flow;
use crate::maps::SOCKETS;
use crate::packet::{self, Ip, Packet, UDP};
use crate::udp;

const PASS: i32 = 1;

#[cgroup_skb(egress)]
pub fn learn_egress(ctx: SkBuffContext) -> i32 {
    let skb = packet::skb(&ctx);
    // SAFETY: the verifier checks that each pointer is tested before its use.
    let socket = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PASS;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return PASS;
        }
        let map = (&raw const SOCKETS).cast_mut().cast();
        let found = bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0).cast::<SocketService>();
        if found.is_null() {
            return PASS;
        }
        &mut *found
    };
    if socket.state != SocketState::TRANSLATED {
        return PASS;
    }
    let (_, _, ethertype) = packet::facts(&ctx);
    if let Ok(packet) = packet::parse(&ctx, 0, ethertype)
        && packet.has_ports
    {
        learn(&ctx, socket, &packet);
    }
    PASS
}

#[inline(always)]
fn learn(ctx: &SkBuffContext, socket: &mut SocketService, packet: &Packet) {
    let connected = packet.proto == socket.proto
        && packet.dst == Ip::from_bytes(&socket.backend_addr)
        && packet.dst_port == u16::from_ne_bytes(socket.backend_port);
    if connected {
        flow::learn(packet, socket.service, socket.backend);
        // A UDP flow may fall idle and start again: it is looked at each time.
        if packet.proto != UDP {
            socket.state = SocketState::LEARNED;
        }
    } else if packet.proto == UDP {
        // SAFETY: the context is the kernel's own.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
        if let Some(peer) = udp::peer(cookie, packet.dst, packet.dst_port, UdpPeerKey::BACKEND) {
            flow::learn(packet, peer.service, peer.backend);
        }
    }
}
