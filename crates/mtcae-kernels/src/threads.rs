//! Where kernels compute.

/// Runs `compute` on a thread of rayon's current pool, where each of its kernels may
/// share its work out at once. From outside, every one of them would be handed over
/// and waited for: hundreds of times in a forward pass, which takes small models
/// longer than the work itself.
pub fn on_pool<R: Send>(compute: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| compute())
}

/// Does both at once, where the current pool has a thread to spare.
pub fn both<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    rayon::join(a, b)
}
