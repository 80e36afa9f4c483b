//! Configuration documents.
