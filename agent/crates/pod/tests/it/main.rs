//! Tables, scripts and random worlds for the pure pod core.

mod admitted;
mod desired;
mod env;
mod probe;
mod random;
mod refused;
mod scripts;
mod world;
