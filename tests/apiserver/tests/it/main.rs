//! The server over real sockets on 127.0.0.1.

mod client;
mod controllers;
mod faults;
mod lists;
mod nodes;
mod objects;
mod watches;
