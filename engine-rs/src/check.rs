//! Argument checks shared by the exported functions, and their error codes.

/// Null, misaligned or overlapping memory, or a value outside its documented range.
pub const BAD_ARGUMENT: i32 = -1;
/// k above 65,535, or an array of 2³¹ bytes or more.
pub const TOO_LARGE: i32 = -2;
/// Bounds not finite, not ordered, or beyond ±2¹²⁶.
pub const BAD_BOUNDS: i32 = -3;
/// Scratch memory could not be had.
pub const OUT_OF_MEMORY: i32 = -4;

/// Largest inner length: 65,535 · 128 · 128 < 2³⁰, so no sum leaves int32, and two C that satisfy
/// |C| ≤ k·2¹⁴ differ by less than p = 2³¹−1.
pub const K_MAX: u32 = 65_535;

/// Largest magnitude of a clamp bound (2¹²⁶): `x − y` of two clamped values then stays finite.
pub const BOUND_MAX: f32 = f32::from_bits(0x7E80_0000);

pub fn ok() -> i32 {
    0
}

/// One array argument: where it starts, how many bytes, the alignment it needs, and whether it is written.
pub struct Region {
    start: usize,
    bytes: u64,
    align: usize,
    written: bool,
}

/// `len` values of `T` to read at `ptr`.
pub fn input<T>(ptr: *const T, len: u64) -> Region {
    Region { start: ptr as usize, bytes: len * size_of::<T>() as u64, align: align_of::<T>(), written: false }
}

/// `len` values of `T` to write at `ptr`.
pub fn output<T>(ptr: *mut T, len: u64) -> Region {
    Region { written: true, ..input(ptr.cast_const(), len) }
}

/// Refuses null or misaligned arrays, arrays of 2³¹ bytes or more, and a written array that overlaps another one.
/// Empty arrays may be anywhere.
pub fn regions(list: &[Region]) -> Result<(), i32> {
    for (at, region) in list.iter().enumerate() {
        if region.bytes == 0 {
            continue;
        }
        if region.bytes >= 1 << 31 {
            return Err(TOO_LARGE);
        }
        if region.start == 0 || region.start % region.align != 0 {
            return Err(BAD_ARGUMENT);
        }
        for other in &list[..at] {
            let apart = region.start as u64 >= other.start as u64 + other.bytes
                || other.start as u64 >= region.start as u64 + region.bytes;
            if other.bytes != 0 && !apart && (region.written || other.written) {
                return Err(BAD_ARGUMENT);
            }
        }
    }
    Ok(())
}

pub fn inner_length(k: u32) -> Result<(), i32> {
    if k > K_MAX {
        return Err(TOO_LARGE);
    }
    Ok(())
}

/// lo < hi, both within ±2¹²⁶ (a NaN fails the comparisons).
pub fn bounds(lo: f32, hi: f32) -> Result<(), i32> {
    if lo < hi && lo >= -BOUND_MAX && hi <= BOUND_MAX {
        return Ok(());
    }
    Err(BAD_BOUNDS)
}

/// `axis` is −1, 0 or 1, and with an EMA 0 < alpha ≤ 1.
pub fn ema(axis: i32, alpha: f32) -> Result<(), i32> {
    let fits = axis == -1 || ((axis == 0 || axis == 1) && alpha > 0.0 && alpha <= 1.0);
    if fits {
        return Ok(());
    }
    Err(BAD_ARGUMENT)
}
