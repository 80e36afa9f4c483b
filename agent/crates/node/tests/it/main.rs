//! The Node from registration to its reports, and its patches.

mod merge;
mod patch;
mod register;
mod report;
