//! Whole commands against a fake agent on a real socket, and what they print.

mod commands;
mod exec;
mod fake;
mod logs;
mod render;
