//! When to probe a container and what the results mean: the kubelet's prober
//! workers without their goroutines.
//!
//! ```text
//!   due(now) ─▶ kinds to probe ─▶ (the agent probes) ─▶ record(kind, ok, …) ─▶ ProbeEffect
//! ```

use crate::observed::ProbeResults;
use jiff::{SignedDuration, Timestamp};
use orlop_model::{ContainerDesired, ContainerName, Probe, ProbeKind};

/// The probes of one attempt at a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prober {
    name: ContainerName,
    started_at: Timestamp,
    startup: Option<Track>,
    liveness: Option<Track>,
    readiness: Option<Track>,
    results: ProbeResults,
}

/// What one result has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEffect {
    /// Nothing.
    None,
    /// The results are others now: tell the plan. [`ProbeResults::kill`] among them
    /// ends all probing of this attempt.
    Changed(ProbeResults),
}

/// One probe's counting.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    probe: Probe,
    /// When the last one was begun.
    begun: Option<Timestamp>,
    /// It has been begun and not recorded.
    in_flight: bool,
    /// The latest result and how often in a row it came.
    run: Option<(bool, u32)>,
}

impl Track {
    fn new(probe: &Option<Probe>) -> Option<Self> {
        Some(Self { probe: probe.clone()?, begun: None, in_flight: false, run: None })
    }

    /// When the next one is due; the container's start counts for the first.
    fn next(&self, started_at: Timestamp) -> Option<Timestamp> {
        if self.in_flight {
            return None;
        }
        let (from, secs) = match self.begun {
            None => (started_at, self.probe.initial_delay_secs),
            Some(begun) => (begun, self.probe.period_secs),
        };
        Some(from.saturating_add(SignedDuration::from_secs(i64::from(secs))).unwrap_or(Timestamp::MAX))
    }

    /// Counts a result; whether its threshold is reached.
    fn count(&mut self, ok: bool) -> bool {
        self.in_flight = false;
        let row = match self.run {
            Some((before, row)) if before == ok => row.saturating_add(1),
            Some(_) | None => 1,
        };
        self.run = Some((ok, row));
        row >= if ok { self.probe.success_threshold } else { self.probe.failure_threshold }
    }
}

impl Prober {
    /// For an attempt that has just started: not started (with a startup probe), not
    /// ready (with a readiness probe).
    #[must_use]
    pub fn new(container: &ContainerDesired, started_at: Timestamp) -> Self {
        Self::resumed(container, started_at, ProbeResults::default())
    }

    /// For an attempt that runs already, with what was known of it: an agent that
    /// starts again takes no pod out of its Services.
    #[must_use]
    pub fn resumed(container: &ContainerDesired, started_at: Timestamp, results: ProbeResults) -> Self {
        Self {
            name: container.name.clone(),
            started_at,
            startup: Track::new(&container.startup),
            liveness: Track::new(&container.liveness),
            readiness: Track::new(&container.readiness),
            results,
        }
    }

    /// What is known so far.
    #[must_use]
    pub fn results(&self) -> &ProbeResults {
        &self.results
    }

    /// When the next probe is due; `None` when there is none to make (no probes, one
    /// in flight, or the container is condemned).
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        ALL.into_iter().filter_map(|kind| self.next_of(kind)).min()
    }

    /// The probes to make now. Each counts as begun, and is not due again before
    /// [`Self::record`] has had its result.
    pub fn due(&mut self, now: Timestamp) -> Vec<(ProbeKind, Probe)> {
        let mut due = Vec::new();
        for kind in ALL {
            if self.next_of(kind).is_some_and(|at| at <= now)
                && let Some(track) = self.track_mut(kind)
            {
                track.begun = Some(now);
                track.in_flight = true;
                due.push((kind, track.probe.clone()));
            }
        }
        due
    }

    /// Takes a result. One that could not be found out (the probe itself broke,
    /// rather than said no) is `None` and changes nothing, as in the kubelet.
    pub fn record(&mut self, kind: ProbeKind, ok: Option<bool>) -> ProbeEffect {
        let condemned = self.results.kill.is_some();
        let Some(track) = self.track_mut(kind) else { return ProbeEffect::None };
        let Some(ok) = ok else {
            track.in_flight = false;
            return ProbeEffect::None;
        };
        if !track.count(ok) || condemned {
            return ProbeEffect::None;
        }
        let before = self.results.clone();
        match (kind, ok) {
            (ProbeKind::Startup, true) => self.results.started = true,
            (ProbeKind::Readiness, ready) => self.results.ready = ready,
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup, false) => self.results.kill = Some(self.condemnation("startup")),
            (ProbeKind::Liveness, false) => self.results.kill = Some(self.condemnation("liveness")),
        }
        if self.results == before { ProbeEffect::None } else { ProbeEffect::Changed(self.results.clone()) }
    }

    fn condemnation(&self, kind: &str) -> String {
        format!("Container {} failed {kind} probe, will be restarted", self.name)
    }

    fn next_of(&self, kind: ProbeKind) -> Option<Timestamp> {
        let starting = self.startup.is_some() && !self.results.started;
        let track = match kind {
            _ if self.results.kill.is_some() => None,
            ProbeKind::Startup => self.startup.as_ref().filter(|_| starting),
            ProbeKind::Liveness => self.liveness.as_ref().filter(|_| !starting),
            ProbeKind::Readiness => self.readiness.as_ref().filter(|_| !starting),
        };
        track?.next(self.started_at)
    }

    fn track_mut(&mut self, kind: ProbeKind) -> Option<&mut Track> {
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Liveness => self.liveness.as_mut(),
            ProbeKind::Readiness => self.readiness.as_mut(),
        }
    }
}

const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];
