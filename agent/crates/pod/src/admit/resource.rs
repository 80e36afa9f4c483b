//! Requests and limits of containers, what they make of the pod, and its QoS class.

use crate::field::{Findings, Path};
use crate::quantity::{QUANTITY_RULE, Quantity};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use orlop_model::{ContainerDesired, ContainerResources, ContainerRole, PodResources, QosClass};
use std::collections::BTreeMap;

/// A non-negative quantity.
pub(super) fn quantity(path: &Path, api: &ApiQuantity, out: &mut Findings) -> Option<Quantity> {
    let Some(quantity) = Quantity::parse(&api.0) else {
        out.invalid(path, &api.0, QUANTITY_RULE);
        return None;
    };
    if quantity.is_negative() {
        out.invalid(path, &api.0, "must be greater than or equal to 0");
        return None;
    }
    Some(quantity)
}

#[derive(Default)]
struct List {
    cpu_milli: Option<u64>,
    memory: Option<u64>,
    ephemeral: Option<u64>,
}

fn list(path: &Path, api: Option<&BTreeMap<String, ApiQuantity>>, out: &mut Findings) -> List {
    let mut list = List::default();
    for (name, value) in api.into_iter().flatten() {
        let path = path.child(name);
        let Some(quantity) = quantity(&path, value, out) else { continue };
        match name.as_str() {
            "cpu" => list.cpu_milli = Some(quantity.milli()),
            "memory" => list.memory = Some(quantity.units()),
            "ephemeral-storage" => list.ephemeral = Some(quantity.units()),
            _ if name.starts_with("hugepages-") || name.contains('/') => out.not_yet(&path),
            _ => out.invalid(&path, name, "must be a standard resource for containers"),
        }
    }
    list
}

/// One container's requests and limits; a request that is not given is its limit.
pub(super) fn container(path: &Path, api: Option<&ResourceRequirements>, out: &mut Findings) -> ContainerResources {
    let Some(ResourceRequirements { claims, limits, requests }) = api else { return ContainerResources::default() };
    if claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        out.not_yet(&path.child("claims"));
    }
    let limit = list(&path.child("limits"), limits.as_ref(), out);
    let request = list(&path.child("requests"), requests.as_ref(), out);
    let pairs = [
        ("cpu", request.cpu_milli, limit.cpu_milli),
        ("memory", request.memory, limit.memory),
        ("ephemeral-storage", request.ephemeral, limit.ephemeral),
    ];
    for (name, request, limit) in pairs {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let text = |map: &Option<BTreeMap<String, ApiQuantity>>| {
                map.as_ref().and_then(|map| map.get(name)).map(|q| q.0.clone()).unwrap_or_default()
            };
            let why = format!("must be less than or equal to {name} limit of {}", text(limits));
            out.invalid(&path.child("requests"), text(requests), why);
        }
    }
    if limit.ephemeral.is_some() {
        out.warn(&path.child("limits").child("ephemeral-storage"), "not enforced by Orlop yet");
    }
    ContainerResources {
        cpu_request_milli: request.cpu_milli.or(limit.cpu_milli),
        cpu_limit_milli: limit.cpu_milli,
        memory_request: request.memory.or(limit.memory),
        memory_limit: limit.memory,
        ephemeral_storage_request: request.ephemeral.or(limit.ephemeral),
        ephemeral_storage_limit: limit.ephemeral,
    }
}

/// `spec.overhead`: thousandths of a CPU and bytes.
pub(super) fn overhead(path: &Path, api: Option<&BTreeMap<String, ApiQuantity>>, out: &mut Findings) -> (u64, u64) {
    let list = list(path, api, out);
    (list.cpu_milli.unwrap_or(0), list.memory.unwrap_or(0))
}

/// The pod's own: the sum over main containers or the largest init container
/// where that is more, plus overhead; a limit only if every container has one
/// (the kubelet's `ResourceConfigForPod`).
pub(super) fn pod(containers: &[ContainerDesired], overhead: (u64, u64)) -> PodResources {
    let total = |part: fn(&ContainerResources) -> u64| {
        let of = |role: ContainerRole| containers.iter().filter(move |c| c.role == role).map(|c| part(&c.resources));
        let sum = of(ContainerRole::Main).fold(0, u64::saturating_add);
        of(ContainerRole::Init).fold(sum, u64::max)
    };
    let all = |part: fn(&ContainerResources) -> Option<u64>| {
        containers.iter().all(|c| part(&c.resources).is_some_and(|limit| limit > 0))
    };
    let plus = |value: u64, extra: u64| value.saturating_add(extra);
    let cpu_limit = total(|r| r.cpu_limit_milli.unwrap_or(0));
    let memory_limit = total(|r| r.memory_limit.unwrap_or(0));
    PodResources {
        cpu_request_milli: plus(total(|r| r.cpu_request_milli.unwrap_or(0)), overhead.0),
        cpu_limit_milli: all(|r| r.cpu_limit_milli).then(|| plus(cpu_limit, overhead.0)),
        memory_request: plus(total(|r| r.memory_request.unwrap_or(0)), overhead.1),
        memory_limit: all(|r| r.memory_limit).then(|| plus(memory_limit, overhead.1)),
    }
}

/// The kubelet's `ComputePodQOS`: over init and main containers, zero counts as not said.
pub(super) fn qos(containers: &[ContainerDesired]) -> QosClass {
    let said = |value: Option<u64>| value.filter(|v| *v > 0);
    let mut any = false;
    let mut guaranteed = !containers.is_empty();
    for ContainerResources {
        cpu_request_milli,
        cpu_limit_milli,
        memory_request,
        memory_limit,
        ephemeral_storage_request: _,
        ephemeral_storage_limit: _,
    } in containers.iter().map(|c| c.resources)
    {
        let pairs = [(said(cpu_request_milli), said(cpu_limit_milli)), (said(memory_request), said(memory_limit))];
        any |= pairs.iter().any(|(request, limit)| request.is_some() || limit.is_some());
        guaranteed &= pairs.iter().all(|(request, limit)| limit.is_some() && request == limit);
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}
