//! The jobs that keep the pool healthy. Each is safe to start at any moment and beside allocations.

pub mod sync;
