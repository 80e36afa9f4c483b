//! Texts as numbers, so that what is remembered does not grow with what was said.

use std::hash::{DefaultHasher, Hash, Hasher};

/// 128 bits that stand for some texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u64, u64);

/// Stands for these texts in this order; unlike texts joined together, `["ab", "c"]` is not `["a", "bc"]`.
pub(crate) fn digest(texts: &[&str]) -> Digest {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, texts).hash(&mut hasher);
        hasher.finish()
    };
    Digest(half(0), half(1))
}
