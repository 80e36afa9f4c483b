//! Pulls from registries over real sockets on 127.0.0.1: small ones in this process
//! that are odd or hostile on demand, and Debian's docker-registry.

mod auth;
mod content;
mod debian;
mod hostile;
mod hosts;
mod joined;
mod pulls;
mod server;
mod world;
