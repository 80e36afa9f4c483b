//! Eviction thresholds.

use crate::duration;
use crate::quantity::Quantity;
use jiff::SignedDuration;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the kubelet uses where `evictionHard` is not set at all.
const DEFAULT_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// What a threshold watches, by the kubelet's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvictionSignal {
    /// `memory.available`.
    MemoryAvailable,
    /// `nodefs.available`.
    NodeFsAvailable,
    /// `nodefs.inodesFree`.
    NodeFsInodesFree,
    /// `imagefs.available`.
    ImageFsAvailable,
    /// `imagefs.inodesFree`.
    ImageFsInodesFree,
    /// `containerfs.available`, which follows nodefs or imagefs.
    ContainerFsAvailable,
    /// `containerfs.inodesFree`, which follows nodefs or imagefs.
    ContainerFsInodesFree,
    /// `pid.available`.
    PidAvailable,
    /// `allocatableMemory.available`: of all pods together.
    AllocatableMemoryAvailable,
}

const SIGNALS: [(&str, EvictionSignal); 9] = [
    ("memory.available", EvictionSignal::MemoryAvailable),
    ("nodefs.available", EvictionSignal::NodeFsAvailable),
    ("nodefs.inodesFree", EvictionSignal::NodeFsInodesFree),
    ("imagefs.available", EvictionSignal::ImageFsAvailable),
    ("imagefs.inodesFree", EvictionSignal::ImageFsInodesFree),
    ("containerfs.available", EvictionSignal::ContainerFsAvailable),
    ("containerfs.inodesFree", EvictionSignal::ContainerFsInodesFree),
    ("pid.available", EvictionSignal::PidAvailable),
    ("allocatableMemory.available", EvictionSignal::AllocatableMemoryAvailable),
];

/// An amount, or a share of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// Bytes, inodes or process ids.
    Amount(u64),
    /// Percent of the capacity, more than 0 and less than 100.
    Percent(f64),
}

/// `evictionHard` as the kubelet completes it.
pub(crate) fn complete_hard(value: &mut Value) {
    let merge = value["mergeDefaultEvictionSettings"] == json!(true);
    if value["evictionHard"].is_null() {
        value["evictionHard"] = json!({});
    } else if !merge {
        return;
    }
    let Some(hard) = value["evictionHard"].as_object_mut() else { return };
    for (signal, at) in DEFAULT_HARD {
        hard.entry(signal).or_insert_with(|| json!(at));
    }
}

/// `0%` and `100%` turn a threshold off.
fn at(signal: &str, text: &str) -> Result<Option<At>, String> {
    let wrong = || format!("{signal}: {text:?} must be a quantity such as 100Mi or a percentage such as 10%");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("{signal}: {text:?} must be from 0% to 100%"));
        }
        return Ok((percent > 0.0 && percent < 100.0).then_some(At::Percent(percent)));
    }
    let amount = Quantity::parse(text).ok_or_else(wrong)?;
    if amount.is_negative() || amount.milli() == 0 {
        return Err(format!("{signal}: {text:?} must be positive"));
    }
    Ok(Some(At::Amount(amount.units())))
}

fn signal(name: &str) -> Result<EvictionSignal, String> {
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal).ok_or_else(|| {
        let known: Vec<_> = SIGNALS.iter().map(|(name, _)| *name).collect();
        format!("{name:?} is no eviction signal; these are: {}", known.join(", "))
    })
}

pub(crate) fn thresholds<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<EvictionSignal, At>, D::Error> {
    let map: BTreeMap<String, String> = Option::deserialize(from)?.unwrap_or_default();
    let mut found = BTreeMap::new();
    for (name, text) in map {
        let signal = signal(&name).map_err(Error::custom)?;
        if let Some(at) = at(&name, &text).map_err(Error::custom)? {
            found.insert(signal, at);
        }
    }
    Ok(found)
}

pub(crate) fn durations<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<EvictionSignal, SignedDuration>, D::Error> {
    let map: BTreeMap<String, String> = Option::deserialize(from)?.unwrap_or_default();
    let one = |(name, text): (String, String)| {
        let duration = duration::parse(&text).map_err(|problem| format!("{name}: {problem}"))?;
        Ok((signal(&name)?, duration))
    };
    map.into_iter().map(one).collect::<Result<_, String>>().map_err(Error::custom)
}
