//! Services: addresses and ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{default_to, items};
use crate::options::Options;
use crate::resource::Resource;
use crate::status::Status;
use crate::store::State;

pub(super) fn on_create(
    options: &Options,
    state: &State,
    resource: &Resource,
    service: &mut Value,
) -> Result<(), Status> {
    default_to(service, "spec", json!({}));
    service["status"] = json!({"loadBalancer": {}});
    defaults(service);
    allocate(options, state, resource, service)
}

pub(super) fn on_update(
    options: &Options,
    state: &State,
    resource: &Resource,
    (old, new): (&Value, &mut Value),
) -> Result<(), Status> {
    defaults(new);
    let (was, is) = (old["spec"]["clusterIP"].clone(), new["spec"]["clusterIP"].clone());
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let external = new["spec"]["type"] == "ExternalName" || old["spec"]["type"] == "ExternalName";
    if is.is_null() && !external {
        for field in ["clusterIP", "clusterIPs"] {
            new["spec"][field] = old["spec"][field].clone();
        }
    } else if was != is && !external {
        let said = format!("Invalid value: {is}: field is immutable");
        return Err(Status::invalid(resource, name, &[("spec.clusterIPs[0]", "FieldValueInvalid", &said)]));
    }
    // A port keeps its node port when the update leaves it out.
    let before = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in items(&mut new["spec"], "ports") {
        let same = before.iter().find(|one| one["port"] == port["port"] && one["protocol"] == port["protocol"]);
        if let Some(number) = same.map(|one| one["nodePort"].clone()).filter(|number| !number.is_null()) {
            default_to(port, "nodePort", number);
        }
    }
    allocate(options, state, resource, new)
}

fn defaults(service: &mut Value) {
    let spec = &mut service["spec"];
    default_to(spec, "type", json!("ClusterIP"));
    default_to(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        default_to(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
    }
    if spec["type"] != "ExternalName" {
        default_to(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    let kind = spec["type"].clone();
    if kind == "NodePort" || kind == "LoadBalancer" {
        default_to(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
    for port in items(spec, "ports") {
        default_to(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default_to(port, "targetPort", number);
    }
}

fn allocate(options: &Options, state: &State, resource: &Resource, service: &mut Value) -> Result<(), Status> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let uid = service["metadata"]["uid"].clone();
    let others: Vec<_> =
        state.of(resource.stored_as).map(|(_, other)| other).filter(|other| other["metadata"]["uid"] != uid).collect();
    let spec = &mut service["spec"];
    if spec["type"] == "ExternalName" {
        drop_nulls(spec);
        return Ok(());
    }
    let taken: BTreeSet<&str> = others.iter().filter_map(|other| other["spec"]["clusterIP"].as_str()).collect();
    match spec["clusterIP"].as_str().filter(|address| !address.is_empty()).map(str::to_owned) {
        Some(address) if address != "None" && taken.contains(address.as_str()) => {
            let said = format!(
                "Invalid value: [{address:?}]: failed to allocate IP {address}: provided IP is already allocated"
            );
            return Err(Status::invalid(resource, &name, &[("spec.clusterIPs", "FieldValueInvalid", &said)]));
        }
        Some(address) => default_to(spec, "clusterIPs", json!([address])),
        None => {
            let address = free_address(&options.service_cidr, &taken)
                .ok_or_else(|| Status::new(500, "InternalError", "failed to allocate a serviceIP: range is full"))?;
            spec["clusterIP"] = json!(address);
            spec["clusterIPs"] = json!([address]);
        }
    }
    let six = spec["clusterIP"].as_str().is_some_and(|address| address.contains(':'));
    default_to(spec, "ipFamilies", json!([if six { "IPv6" } else { "IPv4" }]));
    default_to(spec, "ipFamilyPolicy", json!("SingleStack"));
    let node_ports =
        spec["type"] == "NodePort" || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] == true);
    if node_ports {
        node_port(options, (resource, &name), spec, &others)?;
    } else {
        for port in items(spec, "ports").filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    drop_nulls(spec);
    Ok(())
}

/// Indexing for a look leaves nulls behind; the API has none of them.
fn drop_nulls(spec: &mut Value) {
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
}

fn node_port(
    options: &Options,
    (resource, name): (&Resource, &str),
    spec: &mut Value,
    others: &[&std::sync::Arc<Value>],
) -> Result<(), Status> {
    // One number is one Service's, which may have it once for each protocol.
    let mut own: BTreeSet<(u64, String)> = BTreeSet::new();
    let taken: BTreeSet<u64> = others
        .iter()
        .flat_map(|other| other["spec"]["ports"].as_array().into_iter().flatten())
        .filter_map(|port| port["nodePort"].as_u64())
        .collect();
    let (first, last) = (u64::from(options.node_ports.0), u64::from(options.node_ports.1));
    for port in items(spec, "ports") {
        let wanted = port["nodePort"].as_u64().filter(|number| *number != 0);
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let said = match wanted {
            Some(number) if !(first..=last).contains(&number) => Some(format!(
                "Invalid value: {number}: provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )),
            Some(number) if taken.contains(&number) || own.contains(&(number, protocol.clone())) => {
                Some(format!("Invalid value: {number}: provided port is already allocated"))
            }
            _ => None,
        };
        if let Some(said) = said {
            return Err(Status::invalid(resource, name, &[("spec.ports[0].nodePort", "FieldValueInvalid", &said)]));
        }
        let free = |number: &u64| !taken.contains(number) && !own.iter().any(|(own, _)| own == number);
        let number = wanted.or_else(|| (first..=last).find(free));
        let number =
            number.ok_or_else(|| Status::new(500, "InternalError", "failed to allocate a nodePort: range is full"))?;
        own.insert((number, protocol));
        port["nodePort"] = json!(number);
    }
    Ok(())
}

/// The first free address after the first of the range, which is the API server's own.
fn free_address(cidr: &str, taken: &BTreeSet<&str>) -> Option<String> {
    let (base, length) = cidr.split_once('/')?;
    let (base, length): (Ipv4Addr, u32) = (base.parse().ok()?, length.parse().ok()?);
    let size = 1_u64.checked_shl(32_u32.checked_sub(length)?)?;
    let last = u32::try_from(size.saturating_sub(2)).unwrap_or(u32::MAX);
    let start = 10.min(last);
    (start..=last)
        .chain(2..start)
        .map(|offset| Ipv4Addr::from(u32::from(base) + offset).to_string())
        .find(|address| !taken.contains(address.as_str()))
}
