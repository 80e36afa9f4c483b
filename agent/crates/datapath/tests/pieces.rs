//! The leaves of the packet programs, each alone, compared to the byte.

#[path = "pieces/bench.rs"]
mod bench;
#[path = "pieces/build.rs"]
mod build;
#[path = "world/frame.rs"]
#[allow(dead_code, reason = "shared with the tests of whole programs")]
mod frame;
#[path = "pieces/icmp.rs"]
mod icmp;
#[path = "pieces/neighbour.rs"]
mod neighbour;
#[path = "pieces/reply.rs"]
mod reply;
