//! The integration tests: a real agent, real containers, a real kernel.

mod life;
