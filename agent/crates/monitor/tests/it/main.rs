//! Real containers through the real monitor and the real client. Needs root.

mod exec;
mod life;
mod log;
mod world;
