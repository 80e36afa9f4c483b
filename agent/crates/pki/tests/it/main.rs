//! Keys and certificates as the control plane, TLS and a kubelet on the same machine see them.

mod authority;
mod certificate;
mod discovery;
mod join;
mod request;
mod selfsigned;
mod store;
mod tls;
