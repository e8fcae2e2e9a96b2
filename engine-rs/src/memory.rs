//! Allocation for callers, and scratch space for kernels that reports exhaustion instead of trapping.

use std::alloc::{alloc, dealloc, Layout};

/// Alignment of everything handed out: a cache line, and more than any vector access needs.
const ALIGN: usize = 64;

/// A 64-byte aligned block of `len` bytes, not zeroed; null when memory is exhausted. `len` = 0 gets one byte.
#[no_mangle]
pub extern "C" fn alloc_bytes(len: u32) -> *mut u8 {
    match Layout::from_size_align(len.max(1) as usize, ALIGN) {
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => core::ptr::null_mut(),
    }
}

/// Gives back a block of `alloc_bytes`; a null pointer is ignored.
///
/// # Safety
/// `ptr` came from `alloc_bytes(len)` with the same `len` and was not freed yet.
#[no_mangle]
pub unsafe extern "C" fn free_bytes(ptr: *mut u8, len: u32) {
    if !ptr.is_null() {
        dealloc(ptr, Layout::from_size_align_unchecked(len.max(1) as usize, ALIGN));
    }
}

/// Uninitialised, 64-byte aligned room for `len` values of `T`, freed on drop. Kernels write before they read.
pub struct Scratch<T: Copy> {
    ptr: *mut T,
    bytes: u32,
}

impl<T: Copy> Scratch<T> {
    /// `None` when memory is exhausted or the size is not addressable.
    pub fn new(len: usize) -> Option<Self> {
        let bytes = u32::try_from(len.checked_mul(size_of::<T>())?).ok()?;
        let ptr = alloc_bytes(bytes).cast::<T>();
        (!ptr.is_null()).then_some(Self { ptr, bytes })
    }

    /// The same, every byte 0.
    pub fn zeroed(len: usize) -> Option<Self> {
        let scratch = Self::new(len)?;
        unsafe { scratch.ptr.write_bytes(0, len) };
        Some(scratch)
    }

    pub fn ptr(&self) -> *mut T {
        self.ptr
    }
}

impl<T: Copy> Drop for Scratch<T> {
    fn drop(&mut self) {
        unsafe { free_bytes(self.ptr.cast(), self.bytes) }
    }
}
