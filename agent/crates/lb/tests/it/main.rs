//! The Services compiler from outside: text scripts and random histories.

mod assign;
mod changes;
mod manifest;
mod scale;
mod scripts;
mod whole;
