//! Which slot a client gets: at random, or by a number made of the client and
//! the frontend that is the same on every node.

use orlop_ebpf_abi::{FrontendFlags, FrontendKey};

use crate::packet::Ip;
use crate::question::Question;
use crate::service::{Client, Set};

/// Brings a number of 32 bits below `count`, evenly and without a division
/// (Lemire, <https://arxiv.org/abs/1805.10941>).
#[inline(always)]
fn scaled(number: u32, count: u32) -> u32 {
    ((u64::from(number) * u64::from(count)) >> 32) as u32
}

/// One step of MurmurHash3's 64-bit finalizer with a word mixed in.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

/// The client's number: no state and no secret in it, so that every node makes
/// the same. Addresses and ports go in as they stand in the packet; the key's address is
/// all zero for NodePorts, whichever node they were sent to.
#[inline(always)]
fn hash(key: &FrontendKey, client: &Client, with_port: bool) -> u32 {
    let frontend = Ip::from_bytes(&key.addr);
    let port = if with_port { u64::from(client.port) } else { 0 };
    let ends = port << 32 | u64::from(u16::from_ne_bytes(key.port)) << 8 | u64::from(key.proto);
    let hash = mix(mix(0, client.addr.0), client.addr.1);
    let hash = mix(mix(hash, frontend.0), frontend.1);
    (mix(mix(hash, ends), 0) >> 32) as u32
}

/// Below `count`, by client and frontend; a client with session affinity counts
/// without its port.
#[inline(always)]
fn by_client(question: &Question, count: u32) -> u32 {
    scaled(hash(&question.key, question.client(), question.frontend().affinity_s == 0), count)
}

/// Index of the slot that the client gets, where none is remembered. The Maglev table is one of
/// the cluster set, for clients outside. With DSR the client's packets may enter by any node, so that
/// a random choice would part with the flow's other packets.
#[inline(always)]
pub fn index(question: &Question, set: Set) -> u32 {
    let frontend = question.frontend();
    let outside = !question.client().inside;
    if set.on_this_node {
        by_client(question, set.count)
    } else if outside && frontend.maglev != 0 && !set.local {
        frontend.maglev_first() + by_client(question, frontend.maglev)
    } else if outside && frontend.flags & FrontendFlags::DSR != 0 {
        set.first + by_client(question, set.count)
    } else {
        set.first + scaled(question.random, set.count)
    }
}
