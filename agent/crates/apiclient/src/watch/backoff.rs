//! How long to wait after a failure.

use std::time::Duration;

/// client-go's reflector begins with 800 ms.
const FIRST: Duration = Duration::from_millis(800);
/// Jitter may double it, which gives the 30 s that client-go ends with.
const LAST: Duration = Duration::from_secs(15);
/// After so long without a failure the next one counts as the first.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// Doubles from failure to failure.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    next: Duration,
    /// When the last one was asked for.
    last: Option<Duration>,
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { next: FIRST, last: None, random: seed }
    }

    /// The wait after a failure at `now`, a time since any fixed moment.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        if self.last.is_some_and(|last| now.saturating_sub(last) >= FORGET_AFTER) {
            self.next = FIRST;
        }
        self.last = Some(now);
        let base = self.next;
        self.next = (base * 2).min(LAST);
        base + base.mul_f64(self.fraction())
    }

    /// From 0 to 1: splitmix64, which is enough to keep nodes apart.
    pub(super) fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The upper 53 bits fill the mantissa.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_with_jitter_and_forgets() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            let mut now = Duration::ZERO;
            for base in [800, 1600, 3200, 6400, 12_800, 15_000, 15_000] {
                let wait = backoff.wait(now).as_millis();
                assert!((base..=2 * base).contains(&wait), "{wait} for {base}");
                now += Duration::from_secs(30);
            }
            assert!(backoff.wait(now + FORGET_AFTER).as_millis() <= 1600);
        }
    }

    #[test]
    fn seeds_differ() {
        let first = |seed| Backoff::new(seed).wait(Duration::ZERO);
        assert_ne!(first(1), first(2));
        assert_eq!(first(1), first(1));
    }
}
