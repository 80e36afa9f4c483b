//! The Services compiler from outside: text scripts and random histories.

mod assign;
mod audit;
mod changes;
mod cluster;
mod lean;
mod listed;
mod manifest;
mod scale;
mod scripts;
mod whole;
