//! A pod as the command line shows it. Pure.

use super::judge::Refused;
use super::source::Origin;
use crate::api::{ConditionView, ContainerView, PodDetail, PodView};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};
use orlop_model::{ContainerDesired, ContainerRole, Event, PodDesired, Probe, ProbeAction, VolumeSource};
use orlop_pod::PodObserved;
use orlop_runtime::Monitor;
use std::collections::BTreeMap;

/// All that others may know of a pod, replaced as a whole at every change.
#[derive(Debug, Clone)]
pub(crate) struct PodSnapshot {
    /// As wanted.
    pub want: PodDesired,
    /// As seen.
    pub seen: PodObserved,
    /// As the API would show it.
    pub status: PodStatus,
    /// Who wants it.
    pub origin: Origin,
    /// The status is made with the API server's object too, if the pod has one.
    pub whole: bool,
    /// To run processes in it.
    pub monitor: Option<Monitor>,
    /// Process ids of running containers' inits.
    pub pids: BTreeMap<String, u32>,
    /// How long each phase of its start took, in microseconds.
    pub phases: Vec<(String, u64)>,
}

impl PartialEq for PodSnapshot {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
            && self.status == other.status
            && self.want == other.want
            && self.whole == other.whole
            && self.pids == other.pids
            && self.phases == other.phases
            && self.monitor.is_some() == other.monitor.is_some()
    }
}

/// One row.
pub(crate) fn pod_view(pod: &PodSnapshot) -> PodView {
    let (want, status) = (&pod.want, &pod.status);
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let ips = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    PodView {
        namespace: want.key.namespace().to_owned(),
        name: want.key.name().to_owned(),
        uid: want.uid.to_string(),
        status: telling_status(pod),
        phase: status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
        ready,
        ips,
        started: status.start_time.as_ref().map(|time| time.0),
        qos: want.qos.as_str().to_owned(),
        host_network: want.host_network,
        containers: want.containers.iter().map(|c| container_view(pod, c)).collect(),
    }
}

/// What `kubectl get pods` prints under STATUS (printers/internalversion, printPod):
/// the deletion, else the first init container's trouble, else the first container's
/// reason, else the pod's reason or phase.
fn telling_status(pod: &PodSnapshot) -> String {
    let status = &pod.status;
    if pod.want.deletion.is_some() {
        return "Terminating".to_owned();
    }
    let inits = status.init_container_statuses.iter().flatten();
    let total = pod.want.init_containers().count();
    for (index, init) in inits.enumerate() {
        let state = init.state.as_ref();
        let ended = state.and_then(|s| s.terminated.as_ref());
        if ended.is_some_and(|t| t.exit_code == 0) {
            continue;
        }
        let waiting = state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        return match (ended.and_then(|t| t.reason.as_deref()), waiting) {
            (Some(reason), _) => format!("Init:{reason}"),
            (None, Some(reason)) if reason != "PodInitializing" => format!("Init:{reason}"),
            (None, _) => format!("Init:{index}/{total}"),
        };
    }
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let reason_of = |c: &ContainerStatus| {
        let state = c.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|w| w.reason.clone());
        waiting.or_else(|| state.terminated.as_ref().and_then(|t| t.reason.clone()))
    };
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let running = statuses.iter().any(|c| c.ready && c.state.as_ref().is_some_and(|s| s.running.is_some()));
    match statuses.iter().find_map(reason_of) {
        Some(reason) if reason == "Completed" && running => "Running".to_owned(),
        Some(reason) => reason,
        None => status.reason.clone().unwrap_or_else(|| phase.to_owned()),
    }
}

fn container_view(pod: &PodSnapshot, want: &ContainerDesired) -> ContainerView {
    let statuses = match want.role {
        ContainerRole::Init => &pod.status.init_container_statuses,
        ContainerRole::Main => &pod.status.container_statuses,
    };
    let status = statuses.iter().flatten().find(|s| s.name == want.name.as_str());
    let state = status.and_then(|s| s.state.clone()).unwrap_or_default();
    let (waiting, running, ended) = (&state.waiting, &state.running, &state.terminated);
    let state_name = match (running, ended) {
        (Some(_), _) => "running",
        (None, Some(_)) => "terminated",
        (None, None) => "waiting",
    };
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|t| t.0);
    ContainerView {
        name: want.name.to_string(),
        init: want.role == ContainerRole::Init,
        image: want.image.to_string(),
        image_id: status.map(|s| s.image_id.clone()).filter(|id| !id.is_empty()),
        id: status.and_then(|s| s.container_id.clone()),
        state: state_name.to_owned(),
        reason: waiting.as_ref().and_then(|w| w.reason.clone()).or(ended.as_ref().and_then(|t| t.reason.clone())),
        message: waiting.as_ref().and_then(|w| w.message.clone()).or(ended.as_ref().and_then(|t| t.message.clone())),
        exit_code: ended.as_ref().map(|t| t.exit_code),
        started: running
            .as_ref()
            .and_then(|r| time(&r.started_at))
            .or(ended.as_ref().and_then(|t| time(&t.started_at))),
        finished: ended.as_ref().and_then(|t| time(&t.finished_at)),
        last: status.and_then(|s| s.last_state.as_ref()).and_then(last_in_words),
        ready: status.is_some_and(|s| s.ready),
        restarts: status.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0)),
        pid: pod.pids.get(want.name.as_str()).copied(),
        ports: want.ports.iter().map(|p| format!("{}/{}", p.container_port, p.protocol)).collect(),
        resources: resources_in_words(want),
        mounts: want.mounts.iter().map(mount_in_words).collect(),
        probes: [("Liveness", &want.liveness), ("Readiness", &want.readiness), ("Startup", &want.startup)]
            .into_iter()
            .filter_map(|(kind, probe)| Some(format!("{kind}: {}", probe_in_words(probe.as_ref()?))))
            .collect(),
    }
}

fn last_in_words(last: &ContainerState) -> Option<String> {
    let ended = last.terminated.as_ref()?;
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let when = ended.finished_at.as_ref().map(|t| format!(", finished {:.0}", t.0)).unwrap_or_default();
    Some(format!("{reason}, exit code {}{when}", ended.exit_code))
}

fn resources_in_words(want: &ContainerDesired) -> Vec<String> {
    let r = &want.resources;
    let pair = |request: Option<String>, limit: Option<String>| match (request, limit) {
        (None, None) => None,
        (request, limit) => {
            Some(format!("{}/{}", request.unwrap_or_else(|| "-".into()), limit.unwrap_or_else(|| "-".into())))
        }
    };
    let milli = |cpu: Option<u64>| cpu.map(|m| format!("{m}m"));
    let bytes = |b: Option<u64>| b.map(|b| format!("{b}"));
    let cpu = pair(milli(r.cpu_request_milli), milli(r.cpu_limit_milli)).map(|p| format!("cpu {p}"));
    let memory = pair(bytes(r.memory_request), bytes(r.memory_limit)).map(|p| format!("memory {p}"));
    cpu.into_iter().chain(memory).collect()
}

fn mount_in_words(mount: &orlop_model::VolumeMount) -> String {
    let mode = if mount.read_only { "ro" } else { "rw" };
    format!("{} from {} ({mode})", mount.mount_path.display(), mount.volume)
}

fn probe_in_words(probe: &Probe) -> String {
    let action = match &probe.action {
        ProbeAction::Exec { command } => format!("exec [{}]", command.join(" ")),
        ProbeAction::HttpGet { scheme, host, port, path, .. } => {
            let scheme = if *scheme == orlop_model::HttpScheme::Https { "https" } else { "http" };
            format!("http-get {scheme}://{}:{port}{path}", host.as_deref().unwrap_or_default())
        }
        ProbeAction::TcpSocket { host, port } => format!("tcp-socket {}:{port}", host.as_deref().unwrap_or_default()),
    };
    format!(
        "{action} delay={}s timeout={}s period={}s #success={} #failure={}",
        probe.initial_delay_secs,
        probe.timeout_secs,
        probe.period_secs,
        probe.success_threshold,
        probe.failure_threshold
    )
}

/// Everything about one pod.
pub(crate) fn pod_detail(pod: &PodSnapshot, services: Vec<String>, cgroup: String, events: Vec<Event>) -> PodDetail {
    let conditions = pod.status.conditions.iter().flatten().map(|c| ConditionView {
        kind: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone(),
        message: c.message.clone(),
        since: c.last_transition_time.as_ref().map(|t| t.0),
    });
    PodDetail {
        pod: pod_view(pod),
        source: Some(pod.origin.to_string()),
        labels: pod.want.labels.clone(),
        annotations: pod.want.annotations.clone(),
        conditions: conditions.collect(),
        volumes: pod.want.volumes.iter().map(|v| format!("{}: {}", v.name, source_in_words(&v.source))).collect(),
        services,
        host_ports: Vec::new(),
        cgroup,
        start_phases: pod.phases.clone(),
        events,
    }
}

fn source_in_words(source: &VolumeSource) -> String {
    match source {
        VolumeSource::EmptyDir { memory: true, .. } => "EmptyDir (Memory)".to_owned(),
        VolumeSource::EmptyDir { .. } => "EmptyDir".to_owned(),
        VolumeSource::HostPath { path, .. } => format!("HostPath {}", path.display()),
        VolumeSource::ConfigMap { name, .. } => format!("ConfigMap {name}"),
        VolumeSource::Secret { name, .. } => format!("Secret {name}"),
        VolumeSource::Downward { .. } => "DownwardAPI".to_owned(),
        VolumeSource::Projected { .. } => "Projected".to_owned(),
    }
}

/// A refused manifest as a row, so that it is not missed.
pub(crate) fn refused_view(refused: &Refused) -> PodView {
    let (namespace, name) = refused.key.split_once('/').unwrap_or(("default", &refused.key));
    PodView {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
        status: "Invalid".to_owned(),
        phase: "Failed".to_owned(),
        ready: false,
        ips: Vec::new(),
        started: None,
        qos: String::new(),
        host_network: false,
        containers: Vec::new(),
    }
}

/// A refused manifest: where it is and what is wrong with it.
pub(crate) fn refused_detail(refused: &Refused, events: Vec<Event>) -> PodDetail {
    PodDetail {
        pod: refused_view(refused),
        source: Some(refused.origin.to_string()),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        conditions: vec![ConditionView {
            kind: "PodAdmitted".to_owned(),
            status: "False".to_owned(),
            reason: Some("FailedValidation".to_owned()),
            message: Some(refused.message.clone()),
            since: None,
        }],
        volumes: Vec::new(),
        services: Vec::new(),
        host_ports: Vec::new(),
        cgroup: String::new(),
        start_phases: Vec::new(),
        events,
    }
}
