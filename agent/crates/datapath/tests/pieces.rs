//! The leaves of the packet programs, each alone, compared to the byte.

#[path = "pieces/bandwidth.rs"]
mod bandwidth;
#[path = "pieces/bench.rs"]
mod bench;
#[path = "pieces/build.rs"]
mod build;
#[path = "pieces/fragment.rs"]
mod fragment;
#[path = "pieces/icmp.rs"]
mod icmp;
#[path = "pieces/live.rs"]
mod live;
#[path = "pieces/neighbour.rs"]
mod neighbour;
#[path = "pieces/reply.rs"]
mod reply;
#[path = "pieces/sctp.rs"]
mod sctp;
mod world;

use world::frame;
