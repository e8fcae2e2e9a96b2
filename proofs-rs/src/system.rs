//! A constraint system as it is kept for solving: every different coefficient once, eight bytes a term.

use std::collections::HashMap;

use crate::curve::Fr;
use ark_ff::{AdditiveGroup, Field, One};

use crate::bytes::{Bad, Read};
use crate::r1cs::{self, Head, Terms};

/// One term of a linear combination; `coefficient` is an index of `System::coefficients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub wire: u32,
    pub coefficient: u32,
}

/// Places of 1 and −1 among the coefficients: nearly half of all terms need no multiplication.
pub const ONE: u32 = 0;
pub const MINUS_ONE: u32 = 1;

/// Terms at most, and coefficients: several times what the largest key allows for.
pub const TERMS_MAX: usize = 1 << 27;

/// Sides of a constraint A·B = C.
pub const A: usize = 0;
pub const B: usize = 1;
pub const C: usize = 2;

pub struct System {
    pub wires: usize,
    /// The wire of each input signal, public ones first; 0 where it is none and follows from the others.
    pub inputs: Vec<u32>,
    pub coefficients: Vec<Fr>,
    pub terms: Vec<Term>,
    /// Where each side of each constraint ends in `terms`: A, B, C of the first one, of the second, ….
    pub ends: Vec<u32>,
}

/// Coefficients that are being gathered.
pub struct Pool {
    list: Vec<Fr>,
    places: HashMap<Fr, u32>,
}

impl Default for Pool {
    fn default() -> Self {
        let mut pool = Self { list: vec![], places: HashMap::new() };
        pool.place(Fr::one());
        pool.place(-Fr::one());
        pool
    }
}

impl Pool {
    pub fn place(&mut self, value: Fr) -> u32 {
        let list = &mut self.list;
        *self.places.entry(value).or_insert_with(|| {
            list.push(value);
            (list.len() - 1) as u32
        })
    }

    pub fn value(&self, place: u32) -> Fr {
        self.list[place as usize]
    }

    pub fn into_list(self) -> Vec<Fr> {
        self.list
    }
}

impl System {
    /// Out of an .r1cs file, with its inputs where they have wires. Its coefficients stay in the pool, which may take more
    /// of them before they are handed over.
    pub fn read(file: &[u8]) -> Read<(Self, Pool, Head, Vec<Option<u32>>)> {
        let mut pool = Pool::default();
        let (mut terms, mut ends) = (Vec::new(), Vec::new());
        let head = r1cs::each(file, |constraint| {
            for side in unlinked(constraint) {
                for (wire, value) in side {
                    terms.push(Term { wire: wire as u32, coefficient: pool.place(value) });
                }
                if terms.len() > TERMS_MAX {
                    return Err(Bad::Large);
                }
                ends.push(terms.len() as u32);
            }
            Ok(())
        })?;
        let inputs = r1cs::input_wires(file, &head)?;
        Ok((Self { wires: head.wires, inputs: vec![], coefficients: vec![], terms, ends }, pool, head, inputs))
    }

    pub fn rows(&self) -> usize {
        self.ends.len() / 3
    }

    pub fn side(&self, row: usize, side: usize) -> &[Term] {
        let place = 3 * row + side;
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        &self.terms[start..self.ends[place] as usize]
    }

    /// Σ coefficient·value.
    pub fn sum(&self, terms: &[Term], values: &[Fr]) -> Fr {
        let mut total = Fr::ZERO;
        for term in terms {
            let value = &values[term.wire as usize];
            match term.coefficient {
                ONE => total += value,
                MINUS_ONE => total -= value,
                other => total += self.coefficients[other as usize] * value,
            }
        }
        total
    }

    pub fn holds(&self, row: usize, values: &[Fr]) -> bool {
        let [a, b, c] = [A, B, C].map(|side| self.sum(self.side(row, side), values));
        a * b == c
    }
}

/// A constraint whose A or B is a constant number has no product: it becomes 0·0 = C − A·B. Terms of the same wire
/// become one, and those of coefficient zero none.
fn unlinked(constraint: [Terms; 3]) -> [Terms; 3] {
    let [a, b, c] = constraint.map(merged);
    for (one, other) in [(&a, &b), (&b, &a)] {
        if one.iter().all(|(wire, _)| *wire == 0) {
            let constant: Fr = one.iter().map(|(_, value)| *value).sum();
            let mut linear = c;
            linear.extend(other.iter().map(|(wire, value)| (*wire, -*value * constant)));
            return [vec![], vec![], merged(linear)];
        }
    }
    [a, b, c]
}

/// By rising wire.
fn merged(mut terms: Terms) -> Terms {
    terms.sort_by_key(|(wire, _)| *wire);
    terms.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    terms.retain(|(_, value)| *value != Fr::ZERO);
    terms
}

/// e by 2ᵉ, for −254 < e < 254.
pub fn powers_of_two() -> HashMap<Fr, i32> {
    let (mut found, mut up, mut down) = (HashMap::new(), Fr::one(), Fr::one());
    let half = Fr::from(2u64).inverse().unwrap_or(Fr::ZERO);
    for exponent in 0..254 {
        found.insert(up, exponent);
        found.insert(down, -exponent);
        up.double_in_place();
        down *= half;
    }
    found
}
