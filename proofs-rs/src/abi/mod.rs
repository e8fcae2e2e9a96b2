//! The exported functions. Numbers and points are in wire form (`numbers`) unless said otherwise; pointers are offsets in
//! linear memory.
//!
//! Results: 0 or more as each function says, or −1 form, −2 kind, −3 range, −4 too large, −5 mismatch, −6 no such handle,
//! −7 not solvable, −8 unsatisfied. Nothing here panics on what callers pass, as long as the blocks that they name are
//! theirs.

mod proving;
mod solving;
mod verifying;

use crate::bytes::{Bad, Read};

const NO_HANDLE: i32 = -6;

fn code(bad: Bad) -> i32 {
    match bad {
        Bad::Form => -1,
        Bad::Kind => -2,
        Bad::Range => -3,
        Bad::Large => -4,
        Bad::Mismatch => -5,
        Bad::Unsolvable => -7,
        Bad::Unsatisfied => -8,
    }
}

fn answer(result: Read<i32>) -> i32 {
    result.unwrap_or_else(code)
}

/// # Safety
/// `ptr` names `length` bytes that nobody writes meanwhile, or `length` is 0.
unsafe fn block<'a>(ptr: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        &[]
    } else {
        core::slice::from_raw_parts(ptr, length)
    }
}

/// # Safety
/// `ptr` names `length` bytes that nobody else uses meanwhile.
unsafe fn room<'a>(ptr: *mut u8, length: usize) -> &'a mut [u8] {
    if length == 0 {
        &mut []
    } else {
        core::slice::from_raw_parts_mut(ptr, length)
    }
}

/// Version of this ABI.
#[no_mangle]
pub extern "C" fn abi_version() -> u32 {
    2
}

/// A block of `length` bytes, or null.
#[no_mangle]
pub extern "C" fn alloc_bytes(length: usize) -> *mut u8 {
    let mut bytes: Vec<u8> = Vec::new();
    if length == 0 || bytes.try_reserve_exact(length).is_err() {
        return core::ptr::null_mut();
    }
    core::mem::ManuallyDrop::new(bytes).as_mut_ptr()
}

/// Give a block back.
///
/// # Safety
/// `ptr` and `length` are those of one `alloc_bytes` that was not given back.
#[no_mangle]
pub unsafe extern "C" fn free_bytes(ptr: *mut u8, length: usize) {
    if !ptr.is_null() {
        drop(Vec::from_raw_parts(ptr, 0, length));
    }
}
