//! The Internet checksum (RFC 1071) of what stands in memory. One's complement
//! sums are the same by words of 16 and 32 bits and in either byte order.

use crate::packet::Ip;

/// Adds up words.
#[inline(always)]
pub fn sum<const N: usize>(words: &[u32; N]) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at < N {
        sum += u64::from(words[at]);
        at += 1;
    }
    sum
}

/// What a header's checksum field is for the sum of the rest.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sum to add where `old` is replaced by `new`.
#[inline(always)]
pub fn word_change(old: u32, new: u32) -> u64 {
    u64::from(!old) + u64::from(new)
}

/// The sum to add where two bytes are replaced.
#[inline(always)]
pub fn half_change(old: u16, new: u16) -> u64 {
    u64::from(!old) + u64::from(new)
}

/// The sum to add where an address is replaced by one of its family.
#[inline(always)]
pub fn address_change(old: Ip, new: Ip) -> u64 {
    if old.is_v4() {
        return word_change(old.raw_v4(), new.raw_v4());
    }
    let (old, new) = (old.words(), new.words());
    sum(&[!old[0], !old[1], !old[2], !old[3]]) + sum(&new)
}

/// A checksum field after a change.
#[inline(always)]
pub fn changed(field: u16, change: u64) -> u16 {
    fold(u64::from(!field) + change)
}
