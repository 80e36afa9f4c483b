//! STATUS: could ADD be served?

use super::conf::Document;
use super::failure::{Code, Failure};
use super::place::Place;
use super::store::Store;
use super::version::Version;
use jiff::Timestamp;
use std::net::IpAddr;

/// Fails when ADD could not be served, and says whether the containers that are there suffer too.
pub(super) fn status(place: &Place, document: &Document) -> Result<(), Failure> {
    document.since(Version::V1_1_0, "STATUS")?;
    let settings = document.settings()?;
    let store = Store::new(&document.folder, &settings.ranges);
    let unavailable = |failure: Failure| Failure { code: Code::NotAvailable, ..failure };
    let now = Timestamp::now();
    let looked = store.with(|ipam| {
        let free = |v4: bool| {
            let of_family = ipam.pools().iter().filter(move |pool| pool.cidr().addr().is_ipv4() == v4);
            let free: Vec<u128> = of_family.map(|pool| pool.available(now)).collect();
            !free.is_empty() && free.iter().all(|free| *free == 0)
        };
        let full: Vec<&str> =
            [(true, "IPv4"), (false, "IPv6")].into_iter().filter(|(v4, _)| free(*v4)).map(|(_, name)| name).collect();
        Ok((full, ipam.leases().into_iter().map(|lease| lease.ip).collect::<Vec<IpAddr>>()))
    });
    let (full, leased) = looked.map_err(unavailable)?;
    let off = place.forwarding_off(&leased);
    if !off.is_empty() {
        let message = format!("packets are not forwarded between containers: /proc/sys/{} is 0", off.join(" and "));
        let details = "somebody has turned it off since the first ADD; the next ADD turns it on";
        return Err(Failure::new(Code::LimitedConnectivity, message, details));
    }
    if !full.is_empty() {
        let message = format!("no {} address is left in podCIDRs: {} are leased", full.join(" and no "), leased.len());
        let details = "addresses rest for a minute after DEL; add a range, or run GC if containers died without DEL";
        return Err(Failure::new(Code::NotAvailable, message, details));
    }
    Ok(())
}
