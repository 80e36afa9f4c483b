//! From a service address to one backend, for sockets and for packets.
//!
//! [`find`] is one hash lookup for what is no service. What was found is then
//! worth its questions: whose network is it (sockets), does this client get in
//! ([`ranges`]), which set of the backends does its policy allow, which of them
//! ([`choice`]), has the client one already ([`affinity`]).
//!
//! What is asked once is inlined. [`service_walk`] and [`service_answer`] are global
//! functions: the verifier looks at each once and alone, not again with all that every caller may
//! have in hand.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use orlop_ebpf_abi::{
    Addr, Backend, BackendState, Frontend, FrontendFlags, NODE_PORT_WORD_BITS, NodeAddrFlags, SLOTS_A_BLOCK, SlotKey,
};

use crate::maps::{BACKENDS, NODE_ADDRS, NODE_PORTS, SLOTS};
use crate::packet::Ip;
use crate::question::{Question, generation};
use crate::{affinity, choice, ranges};

/// How often a choice that met a change of the tables is made again.
const TRIES_MAX: u32 = 8;
/// Frontends whose address is outside the cluster's own ranges.
const OUTER: u32 = FrontendFlags::NODE_PORT | FrontendFlags::EXTERNAL | FrontendFlags::HOST_PORT;

/// What was chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub addr: Ip,
    pub port: u16,
    pub service: u32,
    pub backend: u32,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Client {
    /// A pod of this node or a process of the node.
    pub inside: bool,
    /// Its address, or the one that stands for its network namespace
    /// ([`affinity::of_namespace`]): a socket's source is not known yet.
    pub addr: Ip,
    /// Its port in network order; 0 for sockets.
    pub port: u16,
    /// It is in the node's own namespace, to whom loopback frontends belong.
    pub host: bool,
}

/// What a destination is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NotAService,
    /// The service has no backend anywhere; only its number is known.
    Refused,
    /// The traffic policy is Local and only other nodes have backends.
    NoLocal,
    /// The client is in none of the source ranges.
    Denied,
    Backend,
}

/// Kind and choice side by side rather than an enum with data: the compiler
/// may copy the data of a variant that is not there, and the verifier refuses to
/// read what was never written.
#[derive(Clone, Copy)]
pub struct Resolved {
    pub kind: Kind,
    pub chosen: Chosen,
    /// [`FrontendFlags`]; 0 when it is no service.
    pub flags: u32,
}

impl Resolved {
    #[inline(always)]
    pub fn without_backend(kind: Kind, service: u32, flags: u32) -> Self {
        Self { kind, chosen: Chosen { addr: Ip(0, 0), port: 0, service, backend: 0 }, flags }
    }
}

/// Is this port of any node address a NodePort or a host port?
#[inline(always)]
fn is_node_port(port: u16) -> bool {
    let port = u32::from(u16::from_be(port));
    NODE_PORTS.get(port / NODE_PORT_WORD_BITS).is_some_and(|word| word >> (port % NODE_PORT_WORD_BITS) & 1 == 1)
}

/// `127.0.0.0/8` and `::1`.
#[inline(always)]
pub fn is_loopback(addr: Ip) -> bool {
    if addr.is_v4() { addr.raw_v4() as u8 == 127 } else { addr.0 == 0 && addr.1 == 1_u64.to_be() }
}

/// What is served on an address of the node or of another one. All of IPv4's
/// loopback is as its first address.
#[inline(always)]
fn node_addr_flags(addr: Ip) -> u32 {
    let addr = if addr.is_v4() && is_loopback(addr) { Ip::v4(u32::from_ne_bytes([127, 0, 0, 1])) } else { addr };
    let bytes: Addr = addr.bytes();
    // SAFETY: a copy of four bytes.
    unsafe { NODE_ADDRS.get(&bytes) }.copied().unwrap_or(0)
}

/// Finds the frontend of a destination: its own, or a NodePort's or host port's that
/// stands for every address of the node. `peers`: those of other nodes, too.
#[inline(always)]
fn find_on(question: &mut Question, addr: Ip, port: u16, peers: bool) -> bool {
    if question.read() {
        return true;
    }
    if !is_node_port(port) {
        return false;
    }
    let is = node_addr_flags(addr);
    question.key.addr = addr.unspecified().bytes();
    if !question.read() {
        return false;
    }
    if question.frontend().flags & FrontendFlags::HOST_PORT != 0 {
        // `nodePortAddresses` is not about host ports.
        is & NodeAddrFlags::OWN != 0
    } else {
        let served = if peers { NodeAddrFlags::NODE_PORTS | NodeAddrFlags::PEER } else { NodeAddrFlags::NODE_PORTS };
        is & served != 0
    }
}

/// Finds the frontend on this node of the destination that `question` is about. A loopback
/// one is for clients in the node's own namespace: the caller asks [`is_loopback`].
#[inline(always)]
pub fn find(question: &mut Question, addr: Ip, port: u16) -> bool {
    find_on(question, addr, port, false)
}

/// The slots that a client may get.
#[derive(Clone, Copy)]
pub struct Set {
    pub first: u32,
    pub count: u32,
    /// The local set, because of the policy or of the question.
    pub local: bool,
    /// The local set, because of the question.
    pub on_this_node: bool,
}

impl Set {
    #[inline(always)]
    fn of(frontend: &Frontend, client: &Client, on_this_node: bool) -> Self {
        let flags = frontend.flags;
        let policy = if client.inside {
            // From inside, an outer address is subject to neither policy, as if the
            // packet had gone out to the load balancer and come back (kube-proxy's short cut).
            flags & FrontendFlags::INTERNAL_LOCAL != 0 && flags & OUTER == 0
        } else {
            flags & FrontendFlags::EXTERNAL_LOCAL != 0
        };
        let local = on_this_node || policy;
        let (first, count) = if local { (0, frontend.local) } else { (frontend.first, frontend.count) };
        Self { first, count, local, on_this_node }
    }
}

/// Is the client's backend remembered in a table? Elsewhere each node must come
/// to the same answer by itself.
#[inline(always)]
fn has_memory(frontend: &Frontend, client: &Client) -> bool {
    frontend.affinity_s != 0 && (client.inside || frontend.flags & FrontendFlags::DSR == 0)
}

/// One walk from the frontend to a backend, which goes into the answer. Makes a number of all
/// that it found; 0: a slot or backend was gone.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn service_walk(question: *mut Question) -> u64 {
    // SAFETY: the verifier sees to the size, and callers have one at hand.
    let Some(question) = (unsafe { question.as_mut() }) else { return 0 };
    let set = Set::of(question.frontend(), question.client(), question.on_this_node);
    if set.count == 0 {
        let kind = if question.frontend().count == 0 { Kind::Refused } else { Kind::NoLocal };
        question.begin(kind);
        return kind as u64;
    }
    question.begin(Kind::Backend);
    if !question.on_this_node && has_memory(question.frontend(), question.client()) {
        affinity::recall(question);
    }
    let mut id = 0;
    if question.before != 0 && affinity::may_keep(question, set) {
        id = question.before;
    }
    if id == 0 {
        id = slot(question, choice::index(question, set));
    }
    let Some(backend) = backend(question.backend.write(id)) else { return 0 };
    let (addr, port) = (first_addr(&backend.addr), u16::from_ne_bytes(backend.port));
    let chosen = &mut question.answer().chosen;
    (chosen.addr.0, chosen.addr.1, chosen.port, chosen.backend) = (addr.0, addr.1, port, id);
    choice::mix(choice::mix(addr.0, addr.1), u64::from(id) << 16 | u64::from(port)) | 1
}

/// The backend id in one slot; 0: gone.
#[inline(always)]
fn slot(question: &mut Question, index: u32) -> u32 {
    let (service, epoch) = (question.frontend().service, question.frontend().epoch);
    let key = question.slot.write(SlotKey { service, epoch, block: index / SLOTS_A_BLOCK });
    // SAFETY: a copy of four bytes.
    unsafe { SLOTS.get(&*key) }.map_or(0, |ids| ids[(index % SLOTS_A_BLOCK) as usize])
}

#[inline(always)]
fn backend(id: &u32) -> Option<&'static Backend> {
    // SAFETY: as in `read`.
    unsafe { BACKENDS.get(id) }
}

/// The address with which a map's value begins. Values stand at multiples of eight bytes, so it is
/// two loads, where one that may stand anywhere is sixteen.
#[inline(always)]
pub fn first_addr(addr: &Addr) -> Ip {
    let words = ptr::from_ref(addr).cast::<u64>();
    // SAFETY: sixteen bytes, aligned as said.
    unsafe { Ip(words.read(), words.add(1).read()) }
}

/// Does this backend still take new packets of a connectionless flow?
#[inline(always)]
pub fn is_active(id: &u32) -> bool {
    backend(id).is_some_and(|backend| backend.state == BackendState::Active as u8)
}

/// Gives the client a backend of the frontend that was found, and remembers it when the
/// service has session affinity.
///
/// The kernel may hand a removed element's memory to a new element while a
/// program still reads it, so a walk counts only if the tables did not change
/// meanwhile (`GENERATION` even and the same) or if the next walk agrees.
#[inline(always)]
pub fn choose(question: &mut Question) -> &mut Resolved {
    // SAFETY: takes and touches nothing.
    question.random = unsafe { bpf_get_prandom_u32() };
    let mut last = 0;
    let mut tries = 0;
    while tries < TRIES_MAX {
        tries += 1;
        let now = service_walk(question);
        // SAFETY: `read` wrote it.
        let before = unsafe { question.generation.assume_init() };
        if now != 0 && (before & 1 == 0 && generation() == before || now == last) {
            if !question.on_this_node
                && has_memory(question.frontend(), question.client())
                && question.answer().kind == Kind::Backend
            {
                affinity::keep(question);
            }
            return question.answer();
        }
        last = now;
        if !question.read() {
            question.answer().kind = Kind::NotAService;
            return question.answer();
        }
    }
    question.answer().kind = Kind::Refused;
    question.answer()
}

/// The question of the packet that this CPU has in hand. Programs on devices run with
/// softirqs off: there is never a second one.
#[map]
static QUESTIONS: PerCpuArray<Question> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn ask(addr: Ip, port: u16, proto: u8, client: &Client, on_this_node: bool) -> Resolved {
    let nothing = Resolved::without_backend(Kind::NotAService, 0, 0);
    let Some(question) = QUESTIONS.get_ptr_mut(0) else { return nothing };
    // SAFETY: this CPU's element is ours while the program runs.
    let question = Question::about(unsafe { &mut *question.cast() }, addr, port, proto);
    question.set_client(client.inside, client.addr, client.port, client.host);
    question.on_this_node = on_this_node;
    if service_answer() != 0 { *question.answer() } else { nothing }
}

/// A packet's frontend, without a client who asks.
#[inline(always)]
pub fn frontend(addr: Ip, port: u16, proto: u8) -> Option<&'static Frontend> {
    // SAFETY: as in `ask`.
    let question = Question::about(unsafe { &mut *QUESTIONS.get_ptr_mut(0)?.cast() }, addr, port, proto);
    if find(question, addr, port) { Some(question.frontend()) } else { None }
}

/// Answers this CPU's question; 0: it is no service.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn service_answer() -> u32 {
    let Some(question) = QUESTIONS.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `ask`, which is at rest meanwhile.
    let question = unsafe { &mut *question };
    let (addr, port) = (Ip::from_bytes(&question.key.addr), u16::from_ne_bytes(question.key.port));
    if !find_on(question, addr, port, question.on_this_node) || (is_loopback(addr) && !question.client().host) {
        return 0;
    }
    let asks = question.frontend().flags & FrontendFlags::SOURCE_RANGES != 0 && !question.on_this_node;
    if asks && !ranges::admit(question) {
        question.begin(Kind::Denied);
    } else {
        choose(question);
    }
    1
}

/// What a packet's destination is, for this client, and which backend it gets.
#[inline(always)]
pub fn resolve(addr: Ip, port: u16, proto: u8, client: &Client) -> Resolved {
    ask(addr, port, proto, client, false)
}

/// Which of this node's own backends takes a packet that another node forwarded
/// as it came (DSR): that node has looked at policies and ranges. NodePorts of
/// other nodes' addresses are served, too.
#[inline(always)]
pub fn choose_local(addr: Ip, port: u16, proto: u8, client: &Client) -> Resolved {
    ask(addr, port, proto, client, true)
}
