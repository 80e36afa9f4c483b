//! The integration tests: a real agent, real containers, a real kernel.

mod bad_input;
mod cli;
mod counters;
mod endpoints;
mod images;
mod isolation;
mod join;
mod life;
mod logs;
mod network;
mod node_object;
mod probes;
mod recovery;
mod resources;
mod restart;
mod security;
mod service_restart;
mod services;
mod volumes;
