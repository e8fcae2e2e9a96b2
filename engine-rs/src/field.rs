//! Arithmetic modulo the Mersenne prime p = 2³¹−1, and the random vectors of a Freivalds check.

pub const P: i64 = (1 << 31) - 1;

/// A value congruent to x of magnitude below 2³³: 2³¹ ≡ 1, so the high part is simply added (arithmetic shift).
#[inline(always)]
pub fn fold(x: i64) -> i64 {
    (x & P) + (x >> 31)
}

/// The representative in [0, p).
pub fn reduce(x: i64) -> i64 {
    x.rem_euclid(P)
}

/// The representative in (−2³⁰, 2³⁰): one bit less magnitude leaves twice the room in each sum.
pub fn balanced(x: i64) -> i32 {
    let x = reduce(x);
    (if x > P / 2 { x - P } else { x }) as i32
}

/// (low, high) with x = low + 2¹⁶·high, low in [−2¹⁵, 2¹⁵), |high| ≤ 2¹⁴, for |x| < 2³⁰.
pub fn limbs(x: i32) -> (i16, i16) {
    let low = x as i16;
    (low, ((x - i32::from(low)) >> 16) as i16)
}

/// Fills `out` with n independent uniform field elements, balanced.
///
/// They are the words (u32, little-endian, top bit cleared) of BLAKE3-XOF(seed ‖ round as u32 little-endian); the
/// word p is skipped, so that each of the p residues is equally likely.
///
/// # Safety
/// `out` is writable for `n` values.
pub unsafe fn challenge(seed: &[u8; 32], round: u32, out: *mut i32, n: usize) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed).update(&round.to_le_bytes());
    let mut reader = hasher.finalize_xof();
    let mut block = [0u8; 1024];
    let mut filled = 0;
    while filled < n {
        reader.fill(&mut block);
        for word in block.chunks_exact(4) {
            let value = i64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])) & P;
            if value != P && filled < n {
                *out.add(filled) = balanced(value);
                filled += 1;
            }
        }
    }
}
