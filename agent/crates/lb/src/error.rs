//! What is wrong with a Service.

use crate::FrontendOwner;
use orlop_model::{Protocol, ServiceKey};
use std::fmt;
use std::net::IpAddr;

/// What is wrong with one field, in the API server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldProblem {
    /// It must be given.
    Required(&'static str),
    /// Its value is wrong.
    Invalid {
        /// The value as JSON shows it.
        value: String,
        /// Why.
        detail: String,
    },
    /// It is not one of the values that exist.
    Unsupported {
        /// The value as JSON shows it.
        value: String,
        /// Those that exist.
        supported: &'static [&'static str],
    },
    /// The same was given before.
    Duplicate(String),
    /// It must not be given here.
    Forbidden(&'static str),
}

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path, for example `spec.ports[0].port`.
    pub field: String,
    /// What is wrong.
    pub problem: FieldProblem,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match &self.problem {
            FieldProblem::Required("") => write!(f, "{field}: Required value"),
            FieldProblem::Required(detail) => write!(f, "{field}: Required value: {detail}"),
            FieldProblem::Invalid { value, detail } => write!(f, "{field}: Invalid value: {value}: {detail}"),
            FieldProblem::Unsupported { value, supported } => {
                let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
                write!(f, "{field}: Unsupported value: {value}: supported values: {}", supported.join(", "))
            }
            FieldProblem::Duplicate(value) => write!(f, "{field}: Duplicate value: {value}"),
            FieldProblem::Forbidden(detail) => write!(f, "{field}: Forbidden: {detail}"),
        }
    }
}

fn joined(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a Service is not served, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LbError {
    /// Its manifest does not hold.
    #[error("Service {object:?} is invalid: {}", joined(.errors))]
    Invalid {
        /// `namespace/name` as written.
        object: String,
        /// Every field that is wrong.
        errors: Vec<FieldError>,
    },
    /// The address that it asks for is another's.
    #[error("Service {service} asks for cluster IP {ip}, which Service {owner} has: change or remove one of the two")]
    ClusterIpTaken {
        /// Who does not get it.
        service: ServiceKey,
        /// The address.
        ip: IpAddr,
        /// Who has it.
        owner: ServiceKey,
    },
    /// The address that it asks for is not one of the service network.
    #[error("Service {service} asks for cluster IP {ip}, which is in none of the service CIDRs ({cidrs})")]
    ClusterIpOutside {
        /// The Service.
        service: ServiceKey,
        /// The address.
        ip: IpAddr,
        /// The networks there are.
        cidrs: String,
    },
    /// The node port that it asks for is another's.
    #[error(
        "Service {service} asks for node port {port}/{protocol}, which Service {owner} has: change or remove one of the two"
    )]
    NodePortTaken {
        /// Who does not get it.
        service: ServiceKey,
        /// The node port.
        port: u16,
        /// Its transport.
        protocol: Protocol,
        /// Who has it.
        owner: ServiceKey,
    },
    /// The node port that it asks for cannot be one.
    #[error("Service {service} asks for node port {port}: the range of valid ports is 30000-32767")]
    NodePortOutside {
        /// The Service.
        service: ServiceKey,
        /// The node port.
        port: u16,
    },
    /// It asks for a family of which there is no service network.
    #[error(
        "Service {service} asks for an {family} address, but no service CIDR is {family}: give one with --service-cidr"
    )]
    NoSuchFamily {
        /// The Service.
        service: ServiceKey,
        /// The family.
        family: crate::IpFamily,
    },
    /// No address or node port is left.
    #[error("Service {service} gets no {what}: all are taken")]
    Exhausted {
        /// The Service.
        service: ServiceKey,
        /// "cluster IP" or "node port".
        what: &'static str,
    },
    /// A service network that is not one.
    #[error("service CIDR {text:?} {problem}")]
    Cidr {
        /// As written.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Two ask for the same frontend; the loser is not reached there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Address, port and protocol, for example `10.96.0.7:80/TCP`.
    pub frontend: String,
    /// Who has it: a Service before a pod's host port, then the older, then the first
    /// by name.
    pub winner: FrontendOwner,
    /// Who does not.
    pub loser: FrontendOwner,
}

impl Conflict {
    /// Whether the Service is one of the two.
    #[must_use]
    pub fn concerns(&self, service: &ServiceKey) -> bool {
        [&self.winner, &self.loser].into_iter().any(|owner| owner.service() == Some(service))
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frontend, winner, loser } = self;
        write!(f, "{loser} is not reached at {frontend}, which {winner} has: change one of the two")
    }
}
