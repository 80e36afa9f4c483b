//! The integration tests: a real agent, real containers, a real kernel.

mod bad_input;
mod cli;
mod cluster_admission;
mod cluster_endpoints;
mod cluster_moods;
mod cluster_nodes;
mod cluster_objects;
mod cluster_pods;
mod cluster_restart;
mod cluster_services;
mod cluster_static;
mod counters;
mod cross_node;
mod endpoints;
mod images;
mod isolation;

mod life;
mod logs;
mod network;
mod node_object;
mod probes;
mod recovery;
mod resources;
mod restart;
mod security;
mod service_features;
mod service_health;
mod service_restart;
mod service_tables;
mod services;
mod volumes;
