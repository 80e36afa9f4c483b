//! What the node was told about all Services.

/// Settings of the Services compiler, the same for all Services of a node. Maglev
/// tables lead to the same backends on every node that has the same size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Clients outside are led to a backend by a Maglev table of this size, a prime (else
    /// the next one is taken), and not at random. A table costs a sixteenth of its size
    /// in elements of `SLOTS` for each port (and family) of a Service that is open
    /// outside.
    pub maglev: Option<u32>,
    /// Direct server return: the replies of a backend on another node go straight to
    /// the client. For frontends outside whose traffic policy is `Cluster`.
    pub dsr: bool,
}
