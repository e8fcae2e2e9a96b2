//! Shardy's engine: exact integer products, pre-execution, and Freivalds checks.
//!
//! Everything is exported through a plain C ABI (docs/engine-abi.md). Kernels take raw pointers, because that is what
//! a caller on the other side of linear memory has; every exported function checks its arguments first (`check.rs`).
//! Results are the same bytes on every machine: integer arithmetic is exact, and binary32 operations are rounded one
//! by one in a fixed order, never fused.

mod check;
mod field;
mod freivalds;
mod hash;
mod matmul;
mod memory;
mod pack;
mod preexec;
mod project;
mod rows;
mod scale;
mod simd;
mod stream;

pub use freivalds::freivalds_i8;
pub use hash::{blake3_finish, blake3_hash, blake3_new, blake3_update, blake3_xof};
pub use matmul::{matmul_i8, matmul_i8_packed, pack_b, packed_size};
pub use memory::{alloc_bytes, free_bytes};
pub use preexec::preexec_f32;
pub use stream::{clamp_f32, dequantise_i32, ema_f32, quantise_f32};

/// Version of this ABI.
#[no_mangle]
pub extern "C" fn abi_version() -> u32 {
    1
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;
