//! CRC32c of bytes of which a few have changed, without reading the others.
//!
//! The CRC is linear: the CRCs of two messages of the same length differ by the CRC
//! (without its start and end values) of their difference. Where only the first four
//! bytes differ, that is their difference times x^(8·length), modulo the polynomial.
//! Pure arithmetic, which the tests compile a second time for the machine they run on.

/// Castagnoli's polynomial; here as everywhere below the highest bit is the lowest power.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Lengths are below 2^16.
const LENGTH_BITS: usize = 16;
/// x^(8·2^k) at k.
const POWERS: [u32; LENGTH_BITS] = powers();

const fn powers() -> [u32; LENGTH_BITS] {
    let mut powers = [1 << (31 - 8); LENGTH_BITS];
    let mut at = 1;
    while at < LENGTH_BITS {
        powers[at] = multiply(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

#[inline(always)]
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product, mut bit) = (a, b, 0, 0);
    while bit < 32 {
        product ^= b & ((a as i32) >> 31) as u32;
        a <<= 1;
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit += 1;
    }
    product
}

/// What to xor into the CRC of `len` bytes, less than 2^16, when the first four
/// change by `difference` (old xor new). Words are as bytes stand in memory, the
/// first one lowest: so does SCTP keep its CRC.
#[inline(always)]
pub fn change(difference: u32, len: u32) -> u32 {
    let (mut change, mut left, mut bit) = (difference, len, 0);
    while bit < LENGTH_BITS {
        if left & 1 != 0 {
            change = multiply(POWERS[bit], change);
        }
        left >>= 1;
        bit += 1;
    }
    change
}
