//! Memory that the process does not use any more.

/// Gives freed memory back to the kernel. glibc keeps what a burst of work took, an answer
/// about 10,000 Services or the first list of a cluster, as free heap, which counts as the
/// agent's resident memory. Takes a few milliseconds for a heap of 100 MiB.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and touches only the allocator's own free memory, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
