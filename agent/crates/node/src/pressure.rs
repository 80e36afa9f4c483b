//! Whether memory, disk or process ids run short.

use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What is watched, by the kubelet's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`.
    MemoryAvailable,
    /// `nodefs.available`: bytes below the kubelet's root.
    NodeFsAvailable,
    /// `nodefs.inodesFree`.
    NodeFsInodesFree,
    /// `imagefs.available`: bytes where images are unpacked.
    ImageFsAvailable,
    /// `imagefs.inodesFree`.
    ImageFsInodesFree,
    /// `pid.available`.
    PidAvailable,
}

/// An amount, or a share of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdAt {
    /// Bytes, inodes or process ids.
    Amount(u64),
    /// Percent of the capacity.
    Percent(f64),
}

impl ThresholdAt {
    /// The amount, given the capacity; rounded down as the kubelet does.
    #[must_use]
    pub fn amount(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            // The kubelet's share is a 32-bit float, and schedulers show the result: the same bytes here.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            Self::Percent(percent) => (capacity as f64 * f64::from(percent as f32 / 100.0)) as u64,
        }
    }
}

/// One line of `evictionHard` or `evictionSoft`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What is watched.
    pub signal: Signal,
    /// Less than this is pressure.
    pub at: ThresholdAt,
    /// `evictionMinimumReclaim`: so much more must be free before the pressure is over.
    pub reclaim: Option<ThresholdAt>,
}

/// What was measured of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Left.
    pub available: u64,
    /// In all.
    pub capacity: u64,
}

/// The node's pressures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressures {
    /// `MemoryPressure`.
    pub memory: bool,
    /// `DiskPressure`.
    pub disk: bool,
    /// `PIDPressure`.
    pub pid: bool,
}

/// What has to be remembered from one measurement to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PressureMemory {
    /// Places in the list of thresholds.
    met: BTreeSet<usize>,
    last_met: BTreeMap<Kind, Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Memory,
    Disk,
    Pid,
}

impl Signal {
    fn kind(self) -> Kind {
        match self {
            Self::MemoryAvailable => Kind::Memory,
            Self::NodeFsAvailable | Self::NodeFsInodesFree | Self::ImageFsAvailable | Self::ImageFsInodesFree => {
                Kind::Disk
            }
            Self::PidAvailable => Kind::Pid,
        }
    }
}

/// Decides from a measurement. A pressure comes at once, also by a soft threshold whose
/// grace period is not over, and goes when its signals were above their thresholds for all
/// of `transition` (`evictionPressureTransitionPeriod`). A signal that was not measured
/// neither brings nor holds a pressure. `thresholds` must be in the same order each time.
#[must_use]
pub fn pressure(
    thresholds: &[Threshold],
    levels: &BTreeMap<Signal, Level>,
    before: &PressureMemory,
    transition: SignedDuration,
    now: Timestamp,
) -> (Pressures, PressureMemory) {
    let mut after = PressureMemory { met: BTreeSet::new(), last_met: before.last_met.clone() };
    for (place, threshold) in thresholds.iter().enumerate() {
        // A file system without a fixed number of inodes says that it has none.
        let Some(level) = levels.get(&threshold.signal).filter(|level| level.capacity > 0) else { continue };
        let reclaim = threshold.reclaim.filter(|_| before.met.contains(&place));
        let needed = threshold.at.amount(level.capacity);
        let needed = needed.saturating_add(reclaim.map_or(0, |reclaim| reclaim.amount(level.capacity)));
        if level.available < needed {
            after.met.insert(place);
            after.last_met.insert(threshold.signal.kind(), now);
        }
    }
    after.last_met.retain(|_, last| now.duration_since(*last) < transition || *last == now);
    let on = |kind| after.last_met.contains_key(&kind);
    (Pressures { memory: on(Kind::Memory), disk: on(Kind::Disk), pid: on(Kind::Pid) }, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct World {
        memory: PressureMemory,
        levels: BTreeMap<Signal, Level>,
    }

    impl World {
        #[track_caller]
        fn check(&mut self, second: i64, signal: Signal, available: u64, want: &str) {
            let thresholds = [
                Threshold {
                    signal: Signal::MemoryAvailable,
                    at: ThresholdAt::Amount(100),
                    reclaim: Some(ThresholdAt::Amount(50)),
                },
                Threshold { signal: Signal::NodeFsAvailable, at: ThresholdAt::Percent(10.0), reclaim: None },
                Threshold { signal: Signal::PidAvailable, at: ThresholdAt::Percent(5.0), reclaim: None },
            ];
            self.levels.insert(signal, Level { available, capacity: 1000 });
            let now = Timestamp::from_second(second).unwrap();
            let (on, memory) = pressure(&thresholds, &self.levels, &self.memory, SignedDuration::from_mins(5), now);
            self.memory = memory;
            let names = [(on.memory, "memory"), (on.disk, "disk"), (on.pid, "pid")];
            let got: Vec<_> = names.into_iter().filter_map(|(on, name)| on.then_some(name)).collect();
            assert_eq!(got.join(" "), want, "at {second} s with {signal:?} {available}");
        }
    }

    #[test]
    fn comes_at_once_and_goes_after_five_minutes() {
        let mut world = World::default();
        world.check(0, Signal::MemoryAvailable, 100, "");
        world.check(10, Signal::MemoryAvailable, 99, "memory");
        world.check(20, Signal::NodeFsAvailable, 99, "memory disk");
        world.check(30, Signal::NodeFsAvailable, 100, "memory disk");
        // 149 is less than threshold and reclaim together: still met.
        world.check(40, Signal::MemoryAvailable, 149, "memory disk");
        world.check(50, Signal::MemoryAvailable, 150, "memory disk");
        world.check(319, Signal::PidAvailable, 49, "memory disk pid");
        world.check(320, Signal::PidAvailable, 50, "memory pid");
        world.check(339, Signal::MemoryAvailable, 120, "memory pid");
        world.check(340, Signal::MemoryAvailable, 120, "pid");
        world.check(619, Signal::PidAvailable, 1000, "");
    }

    #[test]
    fn what_is_not_measured_does_not_count() {
        let mut world = World::default();
        world.check(0, Signal::ImageFsAvailable, 0, "");
        world.levels.insert(Signal::MemoryAvailable, Level { available: 0, capacity: 0 });
        world.check(0, Signal::ImageFsAvailable, 0, "");
    }

    #[test]
    fn shares_are_rounded_down() {
        assert_eq!(ThresholdAt::Percent(10.0).amount(1_000_000_009), 100_000_002);
        assert_eq!(ThresholdAt::Percent(15.0).amount(0), 0);
    }
}
