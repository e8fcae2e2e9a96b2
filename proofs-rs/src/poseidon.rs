//! Poseidon over BN254's scalar field with circomlib's parameters: x⁵, 8 full rounds, state of 1 + inputs.
//!
//! Constants come from the Grain generator of the Poseidon paper (Grassi et al., 2021, appendix F), as circomlib's do:
//! a page of code instead of a megabyte of numbers. They are made once for each arity.

use crate::curve::Fr;
use ark_ff::{BigInt, Field, PrimeField, Zero};
use std::sync::OnceLock;

/// Inputs at most.
pub const ARITY_MAX: usize = 12;
const FULL_ROUNDS: usize = 8;
/// Partial rounds for 1, 2, … inputs.
const PARTIAL_ROUNDS: [usize; ARITY_MAX] = [56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65];
const FIELD_BITS: usize = 254;

struct Constants {
    partial: usize,
    /// Round by round, one for each place of the state.
    round: Vec<Fr>,
    /// Row by row.
    matrix: Vec<Fr>,
}

/// The 80-bit register, youngest bit last.
struct Grain {
    bits: [bool; 80],
    at: usize,
}

impl Grain {
    fn new(width: usize, partial: usize) -> Self {
        let mut bits = [true; 80];
        let fields = [(1, 2), (0, 4), (FIELD_BITS, 12), (width, 12), (FULL_ROUNDS, 10), (partial, 10)];
        let mut place = 0;
        for (value, length) in fields {
            for bit in (0..length).rev() {
                bits[place] = value >> bit & 1 == 1;
                place += 1;
            }
        }
        let mut grain = Self { bits, at: 0 };
        for _ in 0..160 {
            grain.step();
        }
        grain
    }

    fn step(&mut self) -> bool {
        let bit = [0, 13, 23, 38, 51, 62].iter().fold(false, |sum, tap| sum ^ self.bits[(self.at + tap) % 80]);
        self.bits[self.at] = bit;
        self.at = (self.at + 1) % 80;
        bit
    }

    /// A bit that follows a one; pairs that begin with a zero are dropped.
    fn bit(&mut self) -> bool {
        while !self.step() {
            self.step();
        }
        self.step()
    }

    /// 254 bits, most significant first.
    fn number(&mut self) -> BigInt<4> {
        let mut words = [0u64; 4];
        for at in (0..FIELD_BITS).rev() {
            if self.bit() {
                words[at / 64] |= 1 << (at % 64);
            }
        }
        BigInt(words)
    }
}

fn make(width: usize) -> Constants {
    let partial = PARTIAL_ROUNDS[width - 2];
    let mut grain = Grain::new(width, partial);
    let mut round = Vec::with_capacity(width * (FULL_ROUNDS + partial));
    while round.len() < width * (FULL_ROUNDS + partial) {
        if let Some(value) = Fr::from_bigint(grain.number()) {
            round.push(value);
        }
    }
    // Entries 1/(xᵢ + yⱼ); here numbers are reduced instead of drawn again.
    let mut reduced = || {
        let number = grain.number();
        let bytes: Vec<u8> = number.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        Fr::from_le_bytes_mod_order(&bytes)
    };
    let xs: Vec<Fr> = (0..width).map(|_| reduced()).collect();
    let ys: Vec<Fr> = (0..width).map(|_| reduced()).collect();
    let matrix = xs.iter().flat_map(|x| ys.iter().map(move |y| (*x + y).inverse().unwrap_or_default())).collect();
    Constants { partial, round, matrix }
}

fn constants(width: usize) -> &'static Constants {
    static MADE: [OnceLock<Constants>; ARITY_MAX] = [const { OnceLock::new() }; ARITY_MAX];
    MADE[width - 2].get_or_init(|| make(width))
}

/// The hash of 1 to 12 elements; None for any other number of them.
pub fn poseidon(inputs: &[Fr]) -> Option<Fr> {
    if inputs.is_empty() || inputs.len() > ARITY_MAX {
        return None;
    }
    let width = inputs.len() + 1;
    let Constants { partial, round, matrix } = constants(width);
    let mut state = vec![Fr::zero(); width];
    state[1..].copy_from_slice(inputs);
    for (number, added) in round.chunks_exact(width).enumerate() {
        for (value, constant) in state.iter_mut().zip(added) {
            *value += constant;
        }
        let full = number < FULL_ROUNDS / 2 || number >= FULL_ROUNDS / 2 + partial;
        for value in state.iter_mut().take(if full { width } else { 1 }) {
            *value *= value.square().square();
        }
        let mixed = |row: &[Fr]| row.iter().zip(&state).map(|(entry, value)| *entry * value).sum();
        state = matrix.chunks_exact(width).map(mixed).collect();
    }
    Some(state[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From circomlibjs's own tests.
    #[test]
    fn known_hashes() {
        let hash = |numbers: &[u64]| {
            let inputs: Vec<Fr> = numbers.iter().map(|number| Fr::from(*number)).collect();
            poseidon(&inputs).map(|value| value.into_bigint().to_string())
        };
        let two = "7853200120776062878684798364095072458815029376092732009249414926327459813530";
        let four = "18821383157269793795438455681495246036402687001665670618754263018637548127333";
        assert_eq!(hash(&[1, 2]).as_deref(), Some(two));
        assert_eq!(hash(&[1, 2, 3, 4]).as_deref(), Some(four));
        assert_eq!(hash(&[]), None);
        assert_eq!(hash(&[0; 13]), None);
    }
}
