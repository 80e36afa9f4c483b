//! Changes of links and addresses, as they happen.

use crate::{KernelError, Link, Netns};
use futures_util::StreamExt as _;
use netlink_packet_route::RouteNetlinkMessage;
use orlop_model::Ifindex;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::sys::{AsyncSocket as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rtnetlink::{MulticastGroup, packet_core::NetlinkMessage};
use std::pin::Pin;

/// What has changed. Says where to look; the truth is in a fresh list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link appeared or changed.
    Changed(Link),
    /// A link is gone.
    Gone(Ifindex),
    /// An address was added to or removed from a link.
    Addresses(Ifindex),
    /// The kernel dropped events (ENOBUFS): list everything again.
    Lost,
}

pub(crate) type Messages =
    Pin<Box<dyn futures_util::Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send>>;

/// Listens to groups of route netlink in `netns`, as long as the task runs.
pub(crate) fn listen(
    netns: &Netns,
    groups: &[MulticastGroup],
) -> Result<(Messages, tokio::task::JoinHandle<()>), KernelError> {
    let failed = |what: &'static str| move |source| KernelError::NetlinkSocket { what, source };
    let runtime = tokio::runtime::Handle::current();
    let socket = netns.run(move || {
        let _inside = runtime.enter();
        TokioSocket::new(NETLINK_ROUTE).map_err(failed("open"))
    })?;
    let mut socket = socket?;
    let mask = groups.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, mask)).map_err(failed("bind"))?;
    let (connection, _, messages) = rtnetlink::from_socket(socket);
    Ok((Box::pin(messages), tokio::spawn(connection)))
}

/// A stream of [`LinkEvent`]s of one namespace.
pub struct LinkEvents {
    messages: Messages,
    connection: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkEvents").finish_non_exhaustive()
    }
}

impl LinkEvents {
    /// Listens in `netns`. Needs a tokio runtime. Listen first, then list: nothing is missed.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (messages, connection) = listen(netns, &groups)?;
        Ok(Self { messages, connection })
    }

    /// The next change; `None` when the socket has failed for good.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            let (message, _) = self.messages.next().await?;
            let event = match message.payload {
                NetlinkPayload::Overrun(_) => Some(LinkEvent::Lost),
                NetlinkPayload::InnerMessage(inner) => event_of(&inner),
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(crate) fn event_of(message: &RouteNetlinkMessage) -> Option<LinkEvent> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Link::from_message(link).map(LinkEvent::Changed),
        RouteNetlinkMessage::DelLink(link) => Ifindex::new(link.header.index).map(LinkEvent::Gone),
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            Ifindex::new(address.header.index).map(LinkEvent::Addresses)
        }
        _ => None,
    }
}
