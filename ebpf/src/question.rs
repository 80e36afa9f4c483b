//! A question about a destination, from its key to its answer.

use core::mem::MaybeUninit;
use core::ptr;

use orlop_ebpf_abi::{Frontend, FrontendKey, SlotKey};

use crate::maps::{FRONTENDS, GENERATION};
use crate::packet::Ip;
use crate::service::{Client, Kind, Resolved};
use crate::{affinity, ranges};

/// All that one question needs, and its answer: on the stack of a socket's program; for
/// packets, whose programs have none to spare, in `service::QUESTIONS`.
#[repr(C, align(8))]
pub struct Question {
    pub key: FrontendKey,
    /// Backend that the client has from before, and keeps while it is one of the set; 0: none.
    pub before: u32,
    /// Of the one choice: all walks have to come to the same backend.
    pub random: u32,
    /// Before the frontend was read.
    pub generation: MaybeUninit<u64>,
    frontend: MaybeUninit<Frontend>,
    client: MaybeUninit<Client>,
    pub on_this_node: bool,
    pub backend: MaybeUninit<u32>,
    pub slot: MaybeUninit<SlotKey>,
    pub affinity: MaybeUninit<affinity::Entry>,
    pub range: MaybeUninit<ranges::RangeKey>,
    answer: MaybeUninit<Resolved>,
}

impl Question {
    /// A question about a destination, in a place of the caller's.
    #[inline(always)]
    pub fn about(place: &mut MaybeUninit<Self>, addr: Ip, port: u16, proto: u8) -> &mut Self {
        let question = place.as_mut_ptr();
        // SAFETY: fields that are not written here are `MaybeUninit`; each for itself, because
        // the value as a whole would be made by a call and a loop over bytes.
        unsafe {
            (&raw mut (*question).key).write(FrontendKey {
                addr: addr.bytes(),
                port: port.to_ne_bytes(),
                proto,
                pad: 0,
            });
            (&raw mut (*question).on_this_node).write(false);
            (&raw mut (*question).before).write(0);
            (&raw mut (*question).random).write(0);
            place.assume_init_mut()
        }
    }

    /// The frontend, once it was found.
    #[inline(always)]
    pub fn frontend(&self) -> &Frontend {
        // SAFETY: plain numbers, and zero in a map.
        unsafe { self.frontend.assume_init_ref() }
    }

    #[inline(always)]
    pub fn client(&self) -> &Client {
        // SAFETY: as in `frontend`.
        unsafe { self.client.assume_init_ref() }
    }

    #[inline(always)]
    pub fn answer(&mut self) -> &mut Resolved {
        // SAFETY: as in `frontend`; `Kind` has a variant of number 0.
        unsafe { self.answer.assume_init_mut() }
    }

    /// Copies the frontend of the key, whole or torn: [`service::choose`](crate::service::choose) says what a copy is worth.
    #[inline(always)]
    pub fn read(&mut self) -> bool {
        self.generation.write(generation());
        // SAFETY: the memory stays an element of this table while the program runs.
        let Some(frontend) = (unsafe { FRONTENDS.get(&self.key) }) else { return false };
        let (from, to) = (ptr::from_ref(frontend).cast::<u64>(), self.frontend.as_mut_ptr().cast::<u64>());
        // SAFETY: four words each, at multiples of eight. Word by word, because a copy
        // between places that may be one becomes a call and a loop over bytes.
        unsafe {
            let [a, b, c, d] = [from.read(), from.add(1).read(), from.add(2).read(), from.add(3).read()];
            to.write(a);
            to.add(1).write(b);
            to.add(2).write(c);
            to.add(3).write(d);
        }
        true
    }

    /// Whom it is for.
    #[inline(always)]
    pub fn set_client(&mut self, inside: bool, addr: Ip, port: u16, host: bool) {
        let client = self.client.as_mut_ptr();
        // SAFETY: a place of our own; each field for itself, as in `read`.
        unsafe {
            (*client).inside = inside;
            (*client).addr.0 = addr.0;
            (*client).addr.1 = addr.1;
            (*client).port = port;
            (*client).host = host;
        }
    }

    /// What the frontend says before a backend is known.
    #[inline(always)]
    pub fn begin(&mut self, kind: Kind) {
        let (service, flags) = (self.frontend().service, self.frontend().flags);
        let answer = self.answer();
        answer.kind = kind;
        answer.flags = flags;
        answer.chosen.service = service;
        answer.chosen.backend = 0;
    }
}

#[inline(always)]
pub fn generation() -> u64 {
    // SAFETY: the element is eight aligned bytes that user space writes whole;
    // volatile, because it changes under us.
    GENERATION.get_ptr(0).map_or(1, |value| unsafe { value.read_volatile() })
}
