//! BLAKE3: one-shot, extendable output, and streaming through an opaque handle.

use crate::check::{ok, BAD_ARGUMENT};
use core::slice::{from_raw_parts, from_raw_parts_mut};

/// `len` bytes at `ptr`; a null pointer stands for no bytes when `len` is 0.
unsafe fn bytes<'a>(ptr: *const u8, len: u32) -> Option<&'a [u8]> {
    match (ptr.is_null(), len) {
        (_, 0) => Some(&[]),
        (true, _) => None,
        (false, _) => Some(from_raw_parts(ptr, len as usize)),
    }
}

/// out32[0..32] = BLAKE3(ptr[0..len]). `out32` may lie inside the input: it is written last.
///
/// # Safety
/// The ranges are readable and writable.
#[no_mangle]
pub unsafe extern "C" fn blake3_hash(ptr: *const u8, len: u32, out32: *mut u8) -> i32 {
    blake3_xof(ptr, len, out32, 32)
}

/// out[0..out_len] = the first `out_len` bytes of BLAKE3's extendable output over ptr[0..len].
///
/// # Safety
/// The ranges are readable and writable.
#[no_mangle]
pub unsafe extern "C" fn blake3_xof(ptr: *const u8, len: u32, out: *mut u8, out_len: u32) -> i32 {
    let Some(input) = bytes(ptr, len) else { return BAD_ARGUMENT };
    if out.is_null() {
        return BAD_ARGUMENT;
    }
    let mut reader = blake3::Hasher::new().update(input).finalize_xof();
    reader.fill(from_raw_parts_mut(out, out_len as usize));
    ok()
}

/// A streaming hasher; null when memory is exhausted.
#[no_mangle]
pub extern "C" fn blake3_new() -> *mut blake3::Hasher {
    Box::into_raw(Box::new(blake3::Hasher::new()))
}

/// Feeds `len` bytes.
///
/// # Safety
/// `handle` came from `blake3_new` and was not finished; the range is readable.
#[no_mangle]
pub unsafe extern "C" fn blake3_update(handle: *mut blake3::Hasher, ptr: *const u8, len: u32) -> i32 {
    match (handle.is_null(), bytes(ptr, len)) {
        (false, Some(input)) => {
            (*handle).update(input);
            ok()
        }
        _ => BAD_ARGUMENT,
    }
}

/// Writes the 32-byte digest and frees the handle.
///
/// # Safety
/// As for `blake3_update`; the handle must not be used again.
#[no_mangle]
pub unsafe extern "C" fn blake3_finish(handle: *mut blake3::Hasher, out32: *mut u8) -> i32 {
    if handle.is_null() || out32.is_null() {
        return BAD_ARGUMENT;
    }
    let digest = Box::from_raw(handle).finalize();
    from_raw_parts_mut(out32, 32).copy_from_slice(digest.as_bytes());
    ok()
}
