//! Tables, scripts and random worlds for the pure pod core.

mod admit;
mod desired;
mod env;
mod probe;
mod random;
mod scripts;
mod world;
