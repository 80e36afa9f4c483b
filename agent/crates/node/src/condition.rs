//! `status.conditions`: the node's own four; those of others stay.

use crate::{NodeFacts, Resources};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What a condition says when its pressure is on, and when it is off.
struct Words {
    kind: &'static str,
    on: (&'static str, &'static str),
    off: (&'static str, &'static str),
}

const MEMORY: Words = Words {
    kind: "MemoryPressure",
    on: ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    off: ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
};
const DISK: Words = Words {
    kind: "DiskPressure",
    on: ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    off: ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
};
const PID: Words = Words {
    kind: "PIDPressure",
    on: ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    off: ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
};

/// The conditions after this report. Ready comes last when it is new, as the kubelet has it.
pub(crate) fn conditions(
    existing: &[NodeCondition],
    facts: &NodeFacts,
    capacity: &Resources,
    now: Timestamp,
) -> Vec<NodeCondition> {
    let mut conditions = existing.to_vec();
    let pressures = facts.seen.pressures;
    for (words, on) in [(MEMORY, pressures.memory), (DISK, pressures.disk), (PID, pressures.pid)] {
        let (reason, message) = if on { words.on } else { words.off };
        set(&mut conditions, words.kind, on, (reason, message.to_owned()), now);
    }
    let mut reasons = facts.seen.not_ready.clone();
    if capacity.storage_bytes.is_none() {
        reasons.push("missing node capacity for resources: ephemeral-storage".to_owned());
    }
    let (reason, message) = match reasons.as_slice() {
        [] => ("KubeletReady", "kubelet is posting ready status".to_owned()),
        [one] => ("KubeletNotReady", one.clone()),
        // Go's aggregated errors are written in brackets when there are several.
        several => ("KubeletNotReady", format!("[{}]", several.join(", "))),
    };
    set(&mut conditions, "Ready", reasons.is_empty(), (reason, message), now);
    conditions
}

/// Writes one condition; its transition time moves only with its status. The words follow
/// the status: those of a pressure that is unchanged are left as they are, those of Ready
/// always say what is wrong now.
fn set(list: &mut Vec<NodeCondition>, kind: &str, on: bool, words: (&str, String), now: Timestamp) {
    let now = Some(Time(now));
    let status = if on { "True" } else { "False" };
    let at = list.iter().position(|condition| condition.type_ == kind).unwrap_or_else(|| {
        list.push(NodeCondition { type_: kind.to_owned(), status: "Unknown".to_owned(), ..NodeCondition::default() });
        list.len() - 1
    });
    let condition = &mut list[at];
    let turned = condition.status != status;
    if turned || kind == "Ready" {
        (condition.reason, condition.message) = (Some(words.0.to_owned()), Some(words.1));
    }
    if turned {
        condition.status = status.to_owned();
        condition.last_transition_time.clone_from(&now);
    }
    condition.last_heartbeat_time = now;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, NodeFacts, capacity};

    fn facts() -> NodeFacts {
        let machine = Machine { storage_bytes: Some(1), ..Machine::default() };
        NodeFacts { machine, ..NodeFacts::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[track_caller]
    fn check(before: &[NodeCondition], facts: &NodeFacts, now: i64, want: &str) -> Vec<NodeCondition> {
        let after = conditions(before, facts, &capacity(facts), at(now));
        let second = |time: &Option<Time>| time.as_ref().map_or(-1, |time| time.0.as_second());
        let got: Vec<String> = after
            .iter()
            .map(|c| {
                let reason = c.reason.as_deref().unwrap_or("-");
                let times = (second(&c.last_transition_time), second(&c.last_heartbeat_time));
                format!("{}={} {reason} {}..{}", c.type_, c.status, times.0, times.1)
            })
            .collect();
        assert_eq!(got.join("\n"), want);
        after
    }

    #[test]
    fn transitions_and_heartbeats() {
        let mut facts = facts();
        let first = check(
            &[],
            &facts,
            10,
            "MemoryPressure=False KubeletHasSufficientMemory 10..10\n\
             DiskPressure=False KubeletHasNoDiskPressure 10..10\n\
             PIDPressure=False KubeletHasSufficientPID 10..10\n\
             Ready=True KubeletReady 10..10",
        );
        facts.seen.pressures.memory = true;
        facts.seen.not_ready = vec!["a".into(), "b".into()];
        let second = check(
            &first,
            &facts,
            20,
            "MemoryPressure=True KubeletHasInsufficientMemory 20..20\n\
             DiskPressure=False KubeletHasNoDiskPressure 10..20\n\
             PIDPressure=False KubeletHasSufficientPID 10..20\n\
             Ready=False KubeletNotReady 20..20",
        );
        assert_eq!(second[3].message.as_deref(), Some("[a, b]"));
        facts.seen.not_ready = vec!["c".into()];
        let third = conditions(&second, &facts, &capacity(&facts), at(30));
        assert_eq!(third[3].message.as_deref(), Some("c"));
        assert_eq!(third[3].last_transition_time, Some(Time(at(20))));
    }

    #[test]
    fn others_stay_and_unknown_turns() {
        let other = NodeCondition { type_: "NetworkUnavailable".into(), status: "False".into(), ..Default::default() };
        let lost = NodeCondition {
            type_: "Ready".into(),
            status: "Unknown".into(),
            reason: Some("NodeStatusUnknown".into()),
            last_transition_time: Some(Time(at(1))),
            ..Default::default()
        };
        check(
            &[other, lost],
            &facts(),
            9,
            "NetworkUnavailable=False - -1..-1\n\
             Ready=True KubeletReady 9..9\n\
             MemoryPressure=False KubeletHasSufficientMemory 9..9\n\
             DiskPressure=False KubeletHasNoDiskPressure 9..9\n\
             PIDPressure=False KubeletHasSufficientPID 9..9",
        );
    }

    #[test]
    fn a_machine_without_known_storage_is_not_ready() {
        let facts = NodeFacts::default();
        let after = conditions(&[], &facts, &capacity(&facts), at(1));
        assert_eq!(after[3].message.as_deref(), Some("missing node capacity for resources: ephemeral-storage"));
    }
}
