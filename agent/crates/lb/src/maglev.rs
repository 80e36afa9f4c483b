//! Maglev consistent hashing (Eisenbud et al., NSDI 2016, section 3.4): a table in
//! which every backend has nearly the same number of places, and in which a change of
//! the backends moves few of the other places.

/// The first prime that is not below `size`, because only with a prime every
/// permutation names every place.
pub(crate) fn prime_from(size: u32) -> u32 {
    let prime = |n: &u32| *n > 1 && (2..*n).take_while(|d| d.saturating_mul(*d) <= *n).all(|d| !n.is_multiple_of(d));
    (size..=u32::MAX).find(prime).unwrap_or(2)
}

const FREE: u32 = u32::MAX;

/// Which backend has each of `size` places, a prime: indices into `names`, which are in an
/// order that every node gives them. Empty without backends. Of more backends than
/// places the last have none.
pub(crate) fn table(names: &[impl AsRef<[u8]>], size: u32) -> Vec<u32> {
    if names.is_empty() || size < 2 {
        return Vec::new();
    }
    let mut table = vec![FREE; size as usize];
    let mut turns: Vec<(u32, u32)> = names.iter().map(|name| permutation(name.as_ref(), size)).collect();
    let mut left = size;
    loop {
        for (backend, (next, skip)) in (0..).zip(&mut turns) {
            // Each permutation names every place once: a free one is met.
            while table[*next as usize] != FREE {
                *next = (*next + *skip) % size;
            }
            table[*next as usize] = backend;
            left -= 1;
            if left == 0 {
                return table;
            }
        }
    }
}

/// Where a backend's permutation begins, and its step.
fn permutation(name: &[u8], size: u32) -> (u32, u32) {
    let (offset, skip) = (hash(name, 0), hash(name, 1));
    let below = |hash: u64, limit: u32| u32::try_from(hash % u64::from(limit)).unwrap_or(0);
    (below(offset, size), below(skip, size - 1) + 1)
}

/// FNV-1a, its bits spread by the finalizer of SplitMix64: the same on every machine
/// and in every version, because all nodes must come to the same table.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::{prime_from, table};

    fn names(count: u32) -> Vec<[u8; 4]> {
        (0..count).map(|n| (0x0a01_0000 + n).to_be_bytes()).collect()
    }

    #[test]
    fn sizes_become_prime() {
        let cases = [(0, 2), (251, 251), (252, 257), (1_000, 1_009), (1_021, 1_021), (65_535, 65_537)];
        cases.into_iter().for_each(|(size, prime)| assert_eq!(prime_from(size), prime));
    }

    #[test]
    fn every_backend_has_its_part() {
        for (count, size) in [(1, 251), (3, 251), (10, 1_021), (100, 16_381), (1_000, 65_521)] {
            let table = table(&names(count), size);
            assert_eq!(table.len() as u32, size);
            let mut parts = vec![0; count as usize];
            table.iter().for_each(|backend| parts[*backend as usize] += 1);
            // They take turns: the parts differ by one at most.
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "{parts:?}");
        }
    }

    #[test]
    fn few_places_move() {
        let (count, size) = (20_u32, 4_093);
        let before = table(&names(count), size);
        let mut fewer = names(count);
        fewer.remove(7);
        let after = table(&fewer, size);
        let same = |(old, new): &(&u32, &u32)| names(count)[**old as usize] == fewer[**new as usize];
        let moved = before.iter().zip(&after).filter(|both| !same(both)).count();
        let own = before.iter().filter(|backend| **backend == 7).count();
        assert!(moved >= own && moved < own * 3, "{moved} of {size} moved, {own} had to");
    }

    #[test]
    fn the_same_everywhere() {
        assert_eq!(table(&names(0), 251), []);
        // By a second implementation.
        assert_eq!(table(&names(3), 251)[..12], [2, 2, 0, 0, 2, 1, 2, 1, 0, 0, 2, 1]);
        // More backends than places.
        assert_eq!(table(&names(300), 251).iter().max(), Some(&250));
    }
}
