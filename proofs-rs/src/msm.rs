//! Σ sᵢ·Pᵢ by buckets, with affine additions that share their inversions.
//!
//! Signed windows of c bits; in each window points are sorted by digit, and points of one bucket are added in pairs,
//! all pairs of all buckets at once: one inversion a pass, about 6 multiplications an addition instead of 11. Sorting
//! also keeps a crowded bucket cheap, and witnesses are full of ones and small numbers.
//! Sources: Pippenger (1976); Bernstein, Doumen, Lange, Oosterwijk, "Faster batch forgery identification" (2012).

use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::AdditiveGroup;
use ark_ff::{BigInt, BigInteger, Field, Zero};

/// Bits of a scalar, and one for the carry of signed digits.
const BITS: usize = 255;

/// Σ scalars[i]·points[i]; lists of one length, scalars below 2²⁵⁴.
pub fn msm<P: SWCurveConfig>(points: &[Affine<P>], scalars: &[BigInt<4>]) -> Projective<P> {
    let used: Vec<usize> =
        (0..points.len().min(scalars.len())).filter(|at| !points[*at].infinity && !scalars[*at].is_zero()).collect();
    if used.is_empty() {
        return Projective::zero();
    }
    let width = window_bits(used.len());
    let windows = BITS.div_ceil(width);
    let digits = signed_digits(used.iter().map(|at| &scalars[*at]), used.len(), width, windows);
    let mut total = Projective::<P>::zero();
    let mut pile = Pile::new(1 << (width - 1));
    for window in (0..windows).rev() {
        for _ in 0..width {
            total.double_in_place();
        }
        pile.fill(&digits[window * used.len()..][..used.len()], |at| points[used[at]]);
        pile.collapse();
        total += pile.weighted();
    }
    total
}

/// Width that makes additions into and out of buckets cost about the same.
fn window_bits(count: usize) -> usize {
    match count {
        0..=31 => 4,
        32..=255 => 6,
        256..=2047 => 8,
        _ => (count.ilog2() as usize - 3).clamp(8, 15),
    }
}

/// Digits in −2^(width−1) < d ≤ 2^(width−1), window by window: entry window·count + i.
fn signed_digits<'a>(
    scalars: impl Iterator<Item = &'a BigInt<4>>,
    count: usize,
    width: usize,
    windows: usize,
) -> Vec<i32> {
    let mut digits = vec![0i32; windows * count];
    let (mask, half) = ((1u64 << width) - 1, 1i64 << (width - 1));
    for (at, scalar) in scalars.enumerate() {
        let mut carry = 0i64;
        for window in 0..windows {
            let (word, shift) = (window * width / 64, window * width % 64);
            let mut bits = scalar.0.get(word).map_or(0, |low| low >> shift);
            if shift + width > 64 {
                bits |= scalar.0.get(word + 1).map_or(0, |high| high << (64 - shift));
            }
            let mut digit = (bits & mask) as i64 + carry;
            carry = 0;
            if digit > half {
                digit -= 1 << width;
                carry = 1;
            }
            digits[window * count + at] = digit as i32;
        }
    }
    digits
}

/// The buckets of one window, one after another in `points`; bucket b holds points of digit b + 1.
struct Pile<P: SWCurveConfig> {
    points: Vec<Affine<P>>,
    sizes: Vec<usize>,
    pairs: Vec<(usize, usize)>,
    slopes: Vec<P::BaseField>,
    prefixes: Vec<P::BaseField>,
}

impl<P: SWCurveConfig> Pile<P> {
    fn new(buckets: usize) -> Self {
        Self { points: vec![], sizes: vec![0; buckets], pairs: vec![], slopes: vec![], prefixes: vec![] }
    }

    /// Sort by digit; a negative digit negates its point.
    fn fill(&mut self, digits: &[i32], point: impl Fn(usize) -> Affine<P>) {
        self.sizes.fill(0);
        for digit in digits.iter().filter(|digit| **digit != 0) {
            self.sizes[digit.unsigned_abs() as usize - 1] += 1;
        }
        let mut next = Vec::with_capacity(self.sizes.len());
        let mut sum = 0;
        for size in &self.sizes {
            next.push(sum);
            sum += size;
        }
        self.points.clear();
        self.points.resize(sum, Affine::identity());
        for (at, digit) in digits.iter().enumerate().filter(|(_, digit)| **digit != 0) {
            let place = &mut next[digit.unsigned_abs() as usize - 1];
            self.points[*place] = if *digit < 0 { -point(at) } else { point(at) };
            *place += 1;
        }
    }

    /// Add within buckets until each has one point at most.
    fn collapse(&mut self) {
        while self.sizes.iter().any(|size| *size > 1) {
            self.halve();
        }
    }

    /// One pass: neighbours in a bucket become their sum.
    fn halve(&mut self) {
        self.pairs.clear();
        self.slopes.clear();
        let (mut read, mut write) = (0, 0);
        let one = P::BaseField::ONE;
        for size in &mut self.sizes {
            for pair in 0..*size / 2 {
                let (p, q) = (self.points[read + 2 * pair], self.points[read + 2 * pair + 1]);
                self.pairs.push((read + 2 * pair, write + pair));
                // The denominator of the slope; 1 where there is none to invert.
                self.slopes.push(if p.infinity || q.infinity {
                    one
                } else if p.x != q.x {
                    q.x - p.x
                } else if p.y == q.y && !p.y.is_zero() {
                    p.y.double()
                } else {
                    one
                });
            }
            if *size % 2 == 1 {
                self.pairs.push((read + *size - 1, write + *size / 2));
                self.slopes.push(P::BaseField::ZERO);
            }
            read += *size;
            *size = size.div_ceil(2);
            write += *size;
        }
        self.invert();
        // What is written lies at or before what is read from then on, since each pair becomes one point.
        for (at, (from, to)) in self.pairs.iter().enumerate() {
            let inverse = &self.slopes[at];
            self.points[*to] = if inverse.is_zero() {
                self.points[*from]
            } else {
                add(&self.points[*from], &self.points[from + 1], inverse)
            };
        }
        self.points.truncate(write);
    }

    /// Every non-zero slope by its inverse, with one inversion (Montgomery's trick).
    fn invert(&mut self) {
        self.prefixes.clear();
        let mut product = P::BaseField::ONE;
        for slope in &self.slopes {
            self.prefixes.push(product);
            if !slope.is_zero() {
                product *= slope;
            }
        }
        let mut inverse = product.inverse().unwrap_or(P::BaseField::ONE);
        for (slope, prefix) in self.slopes.iter_mut().zip(&self.prefixes).rev() {
            if !slope.is_zero() {
                let own = inverse * prefix;
                inverse *= &*slope;
                *slope = own;
            }
        }
    }

    /// Σ digit·point over the buckets, after `collapse`.
    fn weighted(&self) -> Projective<P> {
        let (mut running, mut total) = (Projective::<P>::zero(), Projective::<P>::zero());
        let mut end = self.points.len();
        for size in self.sizes.iter().rev() {
            if *size == 1 {
                end -= 1;
                running += self.points[end];
            }
            total += running;
        }
        total
    }
}

/// P + Q with `inverse` of the slope's denominator, as `halve` chose it.
fn add<P: SWCurveConfig>(p: &Affine<P>, q: &Affine<P>, inverse: &P::BaseField) -> Affine<P> {
    if p.infinity {
        return *q;
    }
    if q.infinity {
        return *p;
    }
    let slope = if p.x != q.x {
        (q.y - p.y) * inverse
    } else if p.y == q.y && !p.y.is_zero() {
        let square = p.x.square();
        (square.double() + square + P::COEFF_A) * inverse
    } else {
        return Affine::identity();
    };
    let x = slope.square() - p.x - q.x;
    let y = slope * (p.x - x) - p.y;
    Affine::new_unchecked(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Fr, G1Config, G1Projective, G2Config, G2Projective};
    use ark_ec::{CurveGroup, PrimeGroup};
    use ark_ff::PrimeField;

    fn check<P: SWCurveConfig<ScalarField = Fr>>(generator: Projective<P>, count: usize) {
        let mut state = Fr::from(count as u64 + 3);
        let (mut points, mut scalars) = (vec![], vec![]);
        for at in 0..count {
            state = state * state + Fr::from(7u64);
            let point = match at % 11 {
                3 => Projective::zero(),
                // The same point and its negative again and again: doublings and cancellations inside a bucket.
                4 | 5 => generator,
                6 => -generator,
                _ => generator * state,
            };
            let scalar = match at % 7 {
                0 => Fr::from(0u64),
                1 | 2 => Fr::from(1u64),
                3 => -Fr::from(1u64),
                4 => Fr::from(at as u64 * 77),
                _ => state.square(),
            };
            points.push(point.into_affine());
            scalars.push(scalar);
        }
        let wanted: Projective<P> = points.iter().zip(&scalars).map(|(point, scalar)| *point * scalar).sum();
        let numbers: Vec<_> = scalars.iter().map(|scalar| scalar.into_bigint()).collect();
        assert_eq!(msm(&points, &numbers), wanted);
    }

    #[test]
    fn sums_are_those_of_single_products() {
        for count in [0, 1, 2, 3, 31, 32, 255, 256, 1000] {
            check::<G1Config>(G1Projective::generator(), count);
        }
        for count in [1, 33, 300] {
            check::<G2Config>(G2Projective::generator(), count);
        }
    }
}
