//! DEL and GC: taking containers off the wire.

use super::call::Target;
use super::conf::Document;
use super::failure::{Code, Failure};
use super::place::{Place, alias, attachment, kernel, remove};
use super::store::Store;
use super::version::Version;
use crate::Attachment;
use crate::name::LinkNames;
use orlop_kernel::{Netlink, Request};
use std::collections::BTreeSet;

/// Takes a container off the wire, with or without its namespace; one that is not on it is fine.
pub(super) fn del(
    place: &Place,
    target: &Target,
    document: &Document,
    warn: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    let store = lenient(document, warn);
    match remove(place, &store, &attachment(document, target)) {
        // Leases that nobody can read hold no address: ADD refuses until the file is gone.
        Err(failure) if failure.code == Code::Io && store.is_damaged() => {
            warn(format!("{}: {}", failure.message, failure.details));
            Ok(())
        }
        outcome => outcome,
    }
}

/// Removes what belongs to no living attachment, goes on when something fails, and tells of all of it.
pub(super) fn gc(place: &Place, document: &Document, warn: &mut dyn FnMut(String)) -> Result<(), Failure> {
    document.since(Version::V1_1_0, "GC")?;
    let store = lenient(document, warn);
    let valid = document.valid()?.map(|pairs| {
        let key = |(container, ifname)| Attachment { network: document.network.clone(), container, ifname };
        pairs.into_iter().map(key).collect::<BTreeSet<_>>()
    });
    let leased = store.with(|ipam| Ok(ipam.leases().into_iter().map(|lease| lease.holder).collect::<BTreeSet<_>>()));
    let mut failures = Vec::new();
    let leased = leased.unwrap_or_else(|failure| {
        failures.push(failure);
        BTreeSet::new()
    });
    let failed = |error| kernel("list the node's links", &error);
    let mut netlink = Netlink::open_in(&place.node).map_err(failed)?;
    let links = netlink.links().map_err(failed)?;
    let stale = |key: &&Attachment| match &valid {
        Some(valid) => !valid.contains(*key),
        // A list that was not given proves nothing: only what has lost its wire is stale.
        None => !links.iter().any(|link| link.name == LinkNames::of_attachment(key).host),
    };
    failures.extend(leased.iter().filter(stale).filter_map(|key| remove(place, &store, key).err()));

    // Links without a lease: dataDir was emptied under them.
    if let Some(valid) = &valid {
        let living: BTreeSet<String> = valid.iter().map(alias).collect();
        let known: BTreeSet<String> = leased.iter().map(alias).collect();
        let ours = format!("{}/", document.network);
        for link in links.iter().filter(|link| LinkNames::is_attachment(&link.name)) {
            let Some(alias) = link.alias.as_ref().filter(|alias| alias.starts_with(&ours)) else { continue };
            if !living.contains(alias) && !known.contains(alias) {
                let outcome = netlink.apply(vec![Request::delete_link(link.index)]);
                failures.extend(outcome.err().map(|error| kernel(&format!("delete link {}", link.name), &error)));
            }
        }
    }
    all_of(failures)
}

fn all_of(failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(first) = failures.first() else { return Ok(()) };
    let texts: Vec<String> =
        failures.iter().map(|failure| format!("{}: {}", failure.message, failure.details)).collect();
    Err(Failure::new(first.code, format!("{} things could not be removed", failures.len()), texts.join("; ")))
}

/// The leases, also when the configuration has become unusable for ADD: DEL and GC clean up regardless.
fn lenient(document: &Document, warn: &mut dyn FnMut(String)) -> Store {
    let ranges = document.settings().map(|settings| settings.ranges).unwrap_or_else(|failure| {
        warn(format!("{}: {}; cleaning up all the same", failure.message, failure.details));
        Vec::new()
    });
    Store::new(&document.folder, &ranges)
}
