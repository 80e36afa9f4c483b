//! When an unchanged status is reported again.

use jiff::{SignedDuration, Timestamp};

/// `nodeStatusReportFrequency`, and when the last report was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSchedule {
    report_every: SignedDuration,
    last: Option<Timestamp>,
    delay: SignedDuration,
}

impl ReportSchedule {
    /// Nothing was reported yet: a report is due.
    #[must_use]
    pub fn new(report_every: SignedDuration) -> Self {
        Self { report_every, last: None, delay: SignedDuration::ZERO }
    }

    /// Whether an unchanged status is to be reported.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due_at().is_none_or(|at| now >= at)
    }

    /// When the next report is due; `None` for at once.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        // A time past the end of the calendar is as good as due.
        self.last.and_then(|last| last.checked_add(self.report_every + self.delay).ok())
    }

    /// A report was taken by the API server. `jitter` from 0 to 1 is drawn anew each time;
    /// after a change, and after a start, the next report comes half the period sooner to half
    /// the period later, so that the nodes of a cluster spread.
    pub fn reported(&mut self, changed: bool, now: Timestamp, jitter: f64) {
        self.delay = if changed || self.last.is_none() {
            self.report_every.mul_f64(jitter.clamp(0.0, 1.0) - 0.5)
        } else {
            SignedDuration::ZERO
        };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_after_a_change_and_steady_after() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut schedule = ReportSchedule::new(SignedDuration::from_secs(300));
        assert!(schedule.is_due(at(0)));
        #[track_caller]
        fn check(schedule: &mut ReportSchedule, changed: bool, jitter: f64, now: i64, due: i64) {
            let at = |second| Timestamp::from_second(second).unwrap();
            schedule.reported(changed, at(now), jitter);
            assert_eq!(schedule.due_at(), Some(at(due)));
            assert!(!schedule.is_due(at(due - 1)) && schedule.is_due(at(due)));
        }
        check(&mut schedule, false, 0.0, 0, 150);
        check(&mut schedule, false, 0.0, 150, 450);
        check(&mut schedule, true, 1.0, 200, 650);
        check(&mut schedule, true, 0.5, 300, 600);
    }
}
