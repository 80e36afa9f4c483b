//! ADD: an address, a wire, a result.

use super::call::Target;
use super::conf::{Asked, Document, Settings};
use super::failure::{Code, Failure};
use super::place::{Inside, Place, attachment, remove, wire};
use super::store::Store;
use crate::name::LinkNames;
use crate::plan::default_routes;
use crate::wire::Wire;
use crate::{Attached, Attachment, Wanted};
use ipnet::IpNet;
use jiff::Timestamp;
use orlop_kernel::Netns;
use std::net::IpAddr;

/// Puts the container on the wire. What fails takes back what it has done.
pub(super) fn add(place: &Place, target: &Target, document: &Document) -> Result<String, Failure> {
    let settings = document.settings()?;
    let asked = document.asked(&target.ips)?;
    let before = document.previous()?.unwrap_or_default();
    let add = Add {
        place,
        key: attachment(document, target),
        store: Store::new(&document.folder, &settings.ranges),
        settings: &settings,
    };
    let netns = match place.open(target) {
        // That code says that nothing is left to clean up, so it has to be true.
        Err(failure) if failure.code == Code::UnknownContainer => {
            return Err(match remove(place, &add.store, &add.key) {
                Ok(()) => failure,
                Err(other) => other,
            });
        }
        opened => opened?,
    };
    let inside = Inside::of(&netns, &target.ifname)?;
    if inside.has_interface {
        let message = format!("container {} has an interface {} already", target.container, target.ifname);
        return Err(Failure::new(Code::InTheWay, message, "call DEL before another ADD, or choose another CNI_IFNAME"));
    }
    let (wire, attached) = add.connect(&netns, &asked, &inside).map_err(|failure| add.undo(failure))?;
    let (sandbox, _) = target.netns()?;
    let mut answer = before.with(&wire, &attached, sandbox);
    if answer.dns == Default::default() {
        answer.dns = settings.dns.clone();
    }
    Ok(answer.document(document.version))
}

struct Add<'a> {
    place: &'a Place,
    key: Attachment,
    store: Store,
    settings: &'a Settings,
}

impl Add<'_> {
    fn connect(&self, netns: &Netns, asked: &Asked, inside: &Inside) -> Result<(Wire, Attached), Failure> {
        let now = Timestamp::now();
        let addresses = self.store.with(|ipam| ipam.allocate_asked(&self.key, &asked.ips, now))?;
        let routes = self.routes(&addresses, inside)?;
        let mtu = self.settings.mtu.map_or_else(|| self.place.mtu(), Ok)?;
        let wanted = Wanted { names: LinkNames::of_attachment(&self.key), addresses, routes, mtu };
        if !self.place.forwarding_off(&wanted.addresses).is_empty() {
            self.place.network.prepare_node_blocking().map_err(|error| Failure::of(&error))?;
        }
        let wire = wire(&self.key, netns, wanted, asked.mac);
        let attached = self.place.network.attach_wire(&wire).map_err(|error| Failure::of(&error))?;
        Ok((wire, attached))
    }

    /// Another interface's routes stay as they are: a default route that nobody asked for in
    /// words gives way, and one of the configuration is refused.
    fn routes(&self, addresses: &[IpAddr], inside: &Inside) -> Result<Vec<IpNet>, Failure> {
        let held = |to: &IpNet| inside.routes.iter().any(|route| route.destination == (to.addr(), to.prefix_len()));
        let Some(routes) = &self.settings.routes else {
            return Ok(default_routes(addresses).into_iter().filter(|to| !held(to)).collect());
        };
        match routes.iter().find(|to| held(to)) {
            Some(to) => {
                let message = format!("the container has a route to {to} by another interface");
                Err(Failure::new(Code::InTheWay, message, "take it out of \"routes\" of one of the networks"))
            }
            None => Ok(routes.clone()),
        }
    }

    fn undo(&self, failure: Failure) -> Failure {
        match remove(self.place, &self.store, &self.key) {
            Ok(()) => failure,
            // What made nothing left nothing.
            Err(left) if left.message == failure.message => failure,
            Err(left) => {
                let details = format!("{}; and something is left for DEL: {}", failure.details, left.message);
                Failure { details, ..failure }
            }
        }
    }
}
