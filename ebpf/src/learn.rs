//! cgroup_skb egress: the first packet of a translated socket tells the flow's
//! source, which connect() did not know yet.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use orlop_ebpf_abi::{SocketService, SocketState, UdpPeerKey};

use crate::flow;
use crate::packet::{self, Ip, Packet, TCP, UDP};
use crate::socket;
use crate::udp;

const PASS: i32 = 1;
/// `BPF_TCP_SYN_SENT`: the socket's SYN is on its way.
const SYN_SENT: u32 = 2;
/// `AF_INET`.
const INET: u32 = 2;

#[cgroup_skb(egress)]
pub fn learn_egress(ctx: SkBuffContext) -> i32 {
    let skb = packet::skb(&ctx);
    // SAFETY: the verifier checks that each pointer is tested before its use.
    let sk = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PASS;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return PASS;
        }
        sk
    };
    // SAFETY: as in `ends`.
    let (protocol, state) =
        unsafe { ((&raw const (*sk).protocol).read_volatile(), (&raw const (*sk).state).read_volatile()) };
    if protocol == u32::from(UDP) {
        learn_udp(&ctx, skb);
    } else if state == SYN_SENT {
        learn_tcp(skb, sk);
    }
    PASS
}

#[inline(always)]
fn known(skb: *mut __sk_buff) -> (u64, Option<&'static mut SocketService>) {
    // SAFETY: the context is the kernel's own.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    (cookie, socket::known(cookie))
}

/// Both ends of a socket: source, its port, destination, its port. All is read
/// and then chosen from: the verifier allows no choice between addresses.
#[inline(always)]
fn ends(sk: *const bpf_sock) -> (Ip, u16, Ip, u16) {
    // SAFETY: a full socket of the kernel's; volatile so that each field is read
    // here and whole.
    unsafe {
        let v4 = [(&raw const (*sk).src_ip4).read_volatile(), (&raw const (*sk).dst_ip4).read_volatile()];
        let [src6, dst6] = [v6((&raw const (*sk).src_ip6).cast()), v6((&raw const (*sk).dst_ip6).cast())];
        let src_port = ((&raw const (*sk).src_port).read_volatile() as u16).to_be();
        let dst_port = (&raw const (*sk).dst_port).read_volatile();
        if (&raw const (*sk).family).read_volatile() == INET {
            (Ip::v4(v4[0]), src_port, Ip::v4(v4[1]), dst_port)
        } else {
            (src6, src_port, dst6, dst_port)
        }
    }
}

/// # Safety
/// Four words of a context.
#[inline(always)]
unsafe fn v6(words: *const u32) -> Ip {
    // SAFETY: the caller's.
    unsafe {
        Ip::v6([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    }
}

/// A TCP flow is entered once, with its SYN; its socket knows both ends.
#[inline(always)]
fn learn_tcp(skb: *mut __sk_buff, sk: *const bpf_sock) {
    let (_, Some(socket)) = known(skb) else { return };
    if socket.state != SocketState::TRANSLATED {
        return;
    }
    let (src, src_port, dst, dst_port) = ends(sk);
    if dst == Ip::from_bytes(&socket.backend_addr) && dst_port == u16::from_ne_bytes(socket.backend_port) {
        let (key, src_hi) = flow::key(src, src_port, dst, dst_port, TCP);
        flow::learn(&key, src_hi, socket.service, socket.backend);
        socket.state = SocketState::LEARNED;
    }
}

/// A UDP flow may fall idle and start again: it is looked at each time.
#[inline(always)]
fn learn_udp(ctx: &SkBuffContext, skb: *mut __sk_buff) {
    let (cookie, Some(socket)) = known(skb) else { return };
    if socket.state == SocketState::NONE {
        return;
    }
    let (_, _, ethertype) = packet::facts(ctx);
    let Ok(packet) = packet::parse(ctx, 0, ethertype) else { return };
    if !packet.has_ports || packet.proto != UDP {
        return;
    }
    let connected = packet.dst == Ip::from_bytes(&socket.backend_addr)
        && packet.dst_port == u16::from_ne_bytes(socket.backend_port);
    if connected {
        learn_datagram(&packet, socket.service, socket.backend);
    } else if let Some(peer) = udp::peer(cookie, packet.dst, packet.dst_port, UdpPeerKey::BACKEND) {
        learn_datagram(&packet, peer.service, peer.backend);
    }
}

/// An entry that a packet program made of the same flow just now keeps its counts.
#[inline(always)]
fn learn_datagram(packet: &Packet, service: u32, backend: u32) {
    let (key, src_hi) = flow::key(packet.src, packet.src_port, packet.dst, packet.dst_port, UDP);
    if !flow::is_alive(&key, service, backend) {
        flow::learn(&key, src_hi, service, backend);
    }
}
