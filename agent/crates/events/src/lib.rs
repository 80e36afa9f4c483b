//! Which Kubernetes Events an API server gets to see.
//!
//! Things happen to pods and the node more often than anybody wants to read them. A
//! [`Correlator`] decides, as client-go's `tools/record` does, what is new, what only
//! raises a count and what is too much; a [`Delivery`] decides what to do about each
//! answer of the server; a [`TokenBucket`] keeps both within the node's own rate.
//!
//! ```text
//!  Occurrence ──take──▶ Taken::Dropped                     (spam: counted, not written)
//!                 │
//!                 └───▶ Taken::Write ──Delivery──▶ POST or PATCH ──▶ the server
//!                            ▲                                           │
//!                            │    Again, After(10 s)                     │
//!                            └──────────answered◀────────────────────────┘
//!                                          │ Done
//!                                          ▼
//!                             Correlator::written or ::failed
//! ```
//!
//! In this order: ten events that differ only in their message within ten minutes become
//! one, "(combined from similar events): …"; the same event again becomes a PATCH of its
//! count and last time; an object may have 25 events of a type at once and one more every
//! five minutes. What is remembered has a fixed size, however long the messages are.
//!
//! Nothing here reads a clock, draws a number or opens a socket: times and random numbers
//! are arguments.
#![forbid(unsafe_code)]

mod aggregate;
mod bucket;
mod correlator;
mod delivery;
mod digest;
mod lru;
mod occurrence;

pub use bucket::TokenBucket;
pub use correlator::{Correlator, Counters, Dropped, Failure, Limits, Taken, Write};
pub use delivery::{Answer, Delivery, Next, TRIES_MAX, TRY_PAUSE};
pub use occurrence::{Occurrence, Regarding};
