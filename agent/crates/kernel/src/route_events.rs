//! What somebody takes away of routes, neighbours and links, as it happens.

use crate::link_events::{Messages, event_of, listen};
use crate::{KernelError, LinkEvent, Netns, route_entry};
use futures_util::{FutureExt as _, StreamExt as _};
use netlink_packet_route::RouteNetlinkMessage;
use orlop_model::Ifindex;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{MulticastGroup, packet_core::NetlinkMessage};
use std::net::IpAddr;

/// What has changed. Says where to look; the truth is in a fresh list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteEvent {
    /// A link or its addresses; also that events were lost.
    Link(LinkEvent),
    /// A route of the main table is gone. The kernel says nothing of those that went with their link.
    Gone {
        /// Destination and prefix length.
        destination: (IpAddr, u8),
        /// `rtm_protocol`: whose it was.
        protocol: u8,
    },
    /// A neighbour or forwarding entry of a link is gone.
    NeighbourGone(Ifindex),
}

/// A stream of [`RouteEvent`]s of one namespace.
pub struct RouteEvents {
    messages: Messages,
    connection: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for RouteEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteEvents").finish_non_exhaustive()
    }
}

impl RouteEvents {
    /// Listens in `netns`. Needs a tokio runtime. Listen first, then list: nothing is missed.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (messages, connection) = listen(netns, &groups)?;
        Ok(Self { messages, connection })
    }

    /// The next change; `None` when the socket has failed for good. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<RouteEvent> {
        loop {
            let (message, _) = self.messages.next().await?;
            if let Some(event) = of_message(message) {
                return Some(event);
            }
        }
    }

    /// The next change if it is there already: to take what has gathered in one go.
    pub fn try_next(&mut self) -> Option<RouteEvent> {
        self.next().now_or_never().flatten()
    }
}

fn of_message(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<RouteEvent> {
    match message.payload {
        NetlinkPayload::Overrun(_) => Some(RouteEvent::Link(LinkEvent::Lost)),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => route_entry::seen(&route)
            .map(|gone| RouteEvent::Gone { destination: gone.destination, protocol: gone.protocol }),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(gone)) => {
            Ifindex::new(gone.header.ifindex).map(RouteEvent::NeighbourGone)
        }
        NetlinkPayload::InnerMessage(inner) => event_of(&inner).map(RouteEvent::Link),
        _ => None,
    }
}

impl Drop for RouteEvents {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
