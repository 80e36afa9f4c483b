//! A rate with bursts.

use jiff::{SignedDuration, Timestamp};

/// Holds up to `burst` tokens and gains one every `per`; full at first.
///
/// Counts nanoseconds instead of fractions of tokens, so that nothing is lost to rounding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    per_ns: i64,
    full_ns: i64,
    /// Below zero when tokens were reserved that are still to come.
    credit_ns: i64,
    last: Option<Timestamp>,
}

impl TokenBucket {
    /// A bucket of `burst` tokens that gains one every `per`, which is at least a nanosecond.
    #[must_use]
    pub fn new(per: SignedDuration, burst: u32) -> Self {
        let per_ns = i64::try_from(per.as_nanos()).unwrap_or(i64::MAX).max(1);
        let full_ns = per_ns.saturating_mul(i64::from(burst));
        Self { per_ns, full_ns, credit_ns: full_ns, last: None }
    }

    /// The kubelet's `eventRecordQPS` and `eventBurst`. Zero does not mean "no limit", whatever the
    /// field's documentation says: the kubelet hands it to client-go's `rest.Config`, which takes 5
    /// and 10 then.
    #[must_use]
    pub fn kubelet(qps: u32, burst: u32) -> Self {
        let qps = if qps == 0 { 5 } else { qps };
        let burst = if burst == 0 { 10 } else { burst };
        Self::new(SignedDuration::from_nanos(1_000_000_000 / i64::from(qps)), burst)
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        let enough = self.credit_ns >= self.per_ns;
        if enough {
            self.credit_ns -= self.per_ns;
        }
        enough
    }

    /// Takes a token, and says how long to wait before acting on it.
    pub fn reserve(&mut self, now: Timestamp) -> SignedDuration {
        self.refill(now);
        self.credit_ns = self.credit_ns.saturating_sub(self.per_ns);
        SignedDuration::from_nanos((-self.credit_ns).max(0))
    }

    /// A clock that was set back gains nothing, and counts from there on.
    fn refill(&mut self, now: Timestamp) {
        let gained = self.last.map_or(0, |last| now.duration_since(last).as_nanos());
        let gained = i64::try_from(gained).unwrap_or(i64::MAX).max(0);
        self.credit_ns = self.credit_ns.saturating_add(gained).min(self.full_ns);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    #[test]
    fn takes() {
        // per, burst, (when, whether there is a token)
        let check = |per_ms, burst, steps: &[(i64, bool)]| {
            let mut bucket = TokenBucket::new(SignedDuration::from_millis(per_ms), burst);
            for (index, (when, want)) in steps.iter().enumerate() {
                assert_eq!(bucket.take(at(*when)), *want, "{per_ms} {burst} step {index}");
            }
        };
        check(1_000, 2, &[(0, true), (0, true), (0, false), (999, false), (1_000, true), (1_000, false)]);
        check(1_000, 1, &[(0, true), (600, false), (1_200, true), (2_000, false), (2_200, true)]);
        check(1_000, 2, &[(0, true), (9_000, true), (9_000, true), (9_000, false)]);
        check(1_000, 1, &[(5_000, true), (0, false), (1_000, true)]);
        check(1_000, 0, &[(0, false), (9_000, false)]);
    }

    #[test]
    fn reservations() {
        let mut bucket = TokenBucket::kubelet(50, 2);
        let waits: Vec<_> = [0, 0, 0, 0, 20, 1_000].iter().map(|ms| bucket.reserve(at(*ms)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 20, 40, 40, 0]);
        assert_eq!(TokenBucket::kubelet(0, 0), TokenBucket::kubelet(5, 10));
    }

    proptest! {
        /// In any time, no more than a full bucket and what has dripped into it meanwhile.
        #[test]
        fn never_more_than_its_rate(per in 1i64..500, burst in 0u32..20, gaps in prop::collection::vec(0i64..1_000, 1..200)) {
            let mut bucket = TokenBucket::new(SignedDuration::from_millis(per), burst);
            let mut now = 0;
            let mut taken = Vec::new();
            for gap in gaps {
                now += gap;
                if bucket.take(at(now)) {
                    taken.push(now);
                }
            }
            for (first, start) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let count = i64::try_from(last - first + 1).unwrap();
                    prop_assert!(count <= i64::from(burst) + (end - start) / per, "{count} within {} ms", end - start);
                }
            }
        }
    }
}
