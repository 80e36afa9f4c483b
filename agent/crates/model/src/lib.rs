//! The words every Orlop crate shares: identities checked where they are built,
//! and a pod as it is wanted once admission has understood it.
//!
//! Nothing here touches the kernel, the clock or the network.
#![forbid(unsafe_code)]

mod event;
mod id;
mod net;
mod pod;
mod probe;
mod resource;
mod security;
mod toleration;
mod volume;

pub use event::{Event, EventKind};
pub use id::{ContainerId, ContainerName, IdError, ImageRef, PodKey, PodUid, ServiceKey};
pub use net::{Ifindex, NetnsId, Protocol};
pub use pod::{
    ContainerDesired, ContainerPort, ContainerRole, Deletion, DnsDesired, EnvFrom, EnvSource, EnvVar, HostAlias,
    HostnameTooLong, ObjectKey, PodDesired, PullPolicy, RestartPolicy, TerminationMessagePolicy,
};
pub use probe::{HttpScheme, Probe, ProbeAction, ProbeKind};
pub use resource::{ContainerResources, NodeAllocatable, PodResources, QosClass};
pub use security::{ContainerSecurity, PodSecurity, SeccompProfile};
pub use toleration::{Taint, TaintEffect, Toleration, TolerationOperator};
pub use volume::{
    DownwardFile, DownwardSource, HostPathType, KeyToPath, MountPropagation, Projection, TokenAsk, VolumeDesired,
    VolumeMount, VolumeSource,
};
