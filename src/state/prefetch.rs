//! Asks the processor to load a cache line before it is needed: the one function of the crate with an `unsafe` block.

/// Starts to load `slots[index]` into the cache. Changes nothing but speed; does nothing on other processors than x86-64.
#[inline(always)]
pub(super) fn prefetch<T>(slots: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = slots.as_ptr().wrapping_add(index).cast::<i8>();
        // SAFETY: `prefetcht0` is a hint. It belongs to SSE, which every x86-64 processor has; it reads and writes no
        // memory that the program can see, and it cannot fault: the manuals (Intel SDM vol. 2 "PREFETCHh", AMD APM
        // vol. 3 "PREFETCHlevel") say that a hint on an address that is not mapped is dropped. So any address may be
        // given, in bounds or not. The address itself is computed by `wrapping_add`, which is defined for every index.
        #[expect(
            unsafe_code,
            reason = "the hint has no safe form, and without it the table is two to three times slower"
        )]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (slots, index);
    }
}
