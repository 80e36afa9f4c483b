//! Tables, scripts and random worlds for the pure pod core.

mod admitted;
mod api;
mod desired;
mod downward;
mod env;
mod fit;
mod mirror;
mod needs;
mod patch;
mod probe;
mod random;
mod refused;
mod scripts;
mod services;
mod status;
mod world;
