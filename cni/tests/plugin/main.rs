//! The plugin, called as runtimes call it: a process in the node's namespace, its environment and its standard input.

mod attachments;
mod refusals;
mod upkeep;
mod world;
