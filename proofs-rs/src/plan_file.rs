//! A solver as a file: constraints and order, so that whoever solves need not find the order again. For 64×64×64 it has
//! 8 MB, gzip leaves 4, and it is read in 50 ms; the .r1cs has 68 MB, gzip leaves 32, and the order takes seconds.
//!
//! `shpl`, version u32, then numbers as LEB128 (7 bits a byte, low ones first, at most 32 bits): wires; the wires of the
//! inputs; coefficients, each of 32 bytes; constraints, and the terms of each side; how many values; steps, as a kind and
//! its fields in the order of `write`. Lists have their length before them. A term is its wire less the one before it
//! (zigzag), and the place of its coefficient.

use crate::curve::Fr;

use crate::bytes::{Bad, Cursor, Read};
use crate::numbers::{from_plain, to_plain};
use crate::plan::{Bits, Plan, Row, Source, Step};
use crate::r1cs::ROWS_MAX;
use crate::solve::Solver;
use crate::system::{System, Term, A, B, TERMS_MAX};

pub const MAGIC: &[u8; 4] = b"shpl";
const VERSION: u32 = 1;

const PRODUCT: u32 = 0;
/// And 2: the side is the kind − 1.
const QUOTIENT: u32 = 1;
/// And 4, 5: the side is the kind − 3.
const BIT: u32 = 3;
const BITS: u32 = 6;

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn terms(&mut self, terms: &[Term]) {
        self.number(terms.len() as u32);
        let mut before = 0;
        for term in terms {
            let step = term.wire.wrapping_sub(before) as i32;
            self.number((step << 1 ^ step >> 31) as u32);
            self.number(term.coefficient);
            before = term.wire;
        }
    }
}

pub fn write(solver: &Solver) -> Vec<u8> {
    let (system, plan) = (&solver.system, &solver.plan);
    let mut out = Writer(MAGIC.to_vec());
    out.0.extend(VERSION.to_le_bytes());
    out.number(system.wires as u32);
    out.number(system.inputs.len() as u32);
    for wire in &system.inputs {
        out.number(*wire);
    }
    out.number(system.coefficients.len() as u32);
    for value in &system.coefficients {
        out.0.extend(to_plain(value));
    }
    out.number(system.rows() as u32);
    for place in 0..3 * system.rows() {
        out.terms(system.side(place / 3, place % 3));
    }
    out.number(plan.values as u32);
    out.number(plan.steps.len() as u32);
    for step in &plan.steps {
        match step {
            Step::Row(step) => {
                match step.source {
                    Source::Product => out.number(PRODUCT),
                    Source::Quotient { side } => out.number(QUOTIENT + u32::from(side)),
                    Source::Bit { side, bit, one } => {
                        out.number(BIT + u32::from(side));
                        out.number(bit);
                        out.number(one);
                    }
                }
                for number in [step.row, step.pivot, step.factor] {
                    out.number(number);
                }
                out.terms(&step.moves);
            }
            Step::Bits(step) => {
                out.number(BITS);
                out.terms(&step.number);
                out.number(step.digits.len() as u32);
                for (exponent, place) in &step.digits {
                    out.number(u32::from(*exponent));
                    out.number(*place);
                }
            }
        }
    }
    out.0
}

fn number(at: &mut Cursor) -> Read<u32> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let [byte] = at.array::<1>()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map_err(|_| Bad::Range);
        }
    }
    Err(Bad::Range)
}

fn below(at: &mut Cursor, limit: usize) -> Read<u32> {
    let found = number(at)?;
    if (found as usize) < limit {
        Ok(found)
    } else {
        Err(Bad::Range)
    }
}

/// A count of things of at least `bytes` bytes each, which therefore must still be there.
fn count(at: &mut Cursor, bytes: usize) -> Read<usize> {
    let found = number(at)? as usize;
    if found > at.left() / bytes {
        return Err(Bad::Form);
    }
    Ok(found)
}

/// Limits of indices in a file.
#[derive(Clone, Copy)]
struct Limits {
    wires: usize,
    coefficients: usize,
}

fn terms(at: &mut Cursor, limits: Limits, out: &mut Vec<Term>) -> Read<()> {
    let found = count(at, 2)?;
    let mut wire = 0u32;
    for _ in 0..found {
        let step = number(at)?;
        wire = wire.wrapping_add(step >> 1 ^ (step & 1).wrapping_neg());
        if wire as usize >= limits.wires {
            return Err(Bad::Range);
        }
        out.push(Term { wire, coefficient: below(at, limits.coefficients)? });
    }
    Ok(())
}

fn list(at: &mut Cursor, limits: Limits) -> Read<Vec<Term>> {
    let mut found = vec![];
    terms(at, limits, &mut found)?;
    Ok(found)
}

pub fn read(file: &[u8]) -> Read<Solver> {
    let mut cursor = Cursor::new(file);
    let at = &mut cursor;
    if at.take(4)? != MAGIC || at.u32()? != VERSION {
        return Err(Bad::Kind);
    }
    let wires = number(at)? as usize;
    if wires > ROWS_MAX {
        return Err(Bad::Large);
    }
    if wires == 0 {
        return Err(Bad::Range);
    }
    let inputs: Vec<u32> = (0..count(at, 1)?).map(|_| below(at, wires)).collect::<Read<_>>()?;
    let mut given = vec![false; wires];
    given[0] = true;
    for wire in &inputs {
        if core::mem::replace(&mut given[*wire as usize], true) && *wire > 0 {
            return Err(Bad::Range);
        }
    }
    let coefficients: Vec<Fr> = (0..count(at, 32)?).map(|_| at.take(32).and_then(from_plain)).collect::<Read<_>>()?;
    let limits = Limits { wires, coefficients: coefficients.len() };
    let rows = count(at, 3)?;
    if rows > ROWS_MAX || at.left() / 2 > TERMS_MAX {
        return Err(Bad::Large);
    }
    let (mut all, mut ends) = (vec![], Vec::with_capacity(3 * rows));
    for _ in 0..3 * rows {
        terms(at, limits, &mut all)?;
        ends.push(all.len() as u32);
    }
    let system = System { wires, inputs, coefficients, terms: all, ends };
    let values = number(at)? as usize;
    // Every bit beyond the wires is the digit of a step, which has two bytes.
    if values < wires || values - wires > at.left() / 2 {
        return Err(Bad::Range);
    }
    let steps = (0..count(at, 5)?).map(|_| step(at, &system, values, &given)).collect::<Read<_>>()?;
    at.end()?;
    Ok(Solver { system, plan: Plan { steps, values } })
}

fn step(at: &mut Cursor, system: &System, values: usize, given: &[bool]) -> Read<Step> {
    let (wires, coefficients) = (system.wires, system.coefficients.len());
    let limits = Limits { wires, coefficients };
    let writable = |place: u32| {
        if given.get(place as usize) == Some(&true) {
            Err(Bad::Range)
        } else {
            Ok(place)
        }
    };
    let kind = number(at)?;
    if kind == BITS {
        let number = list(at, limits)?;
        let digits = (0..count(at, 2)?)
            .map(|_| Ok((below(at, 254)? as u8, writable(below(at, values)?)?)))
            .collect::<Read<_>>()?;
        return Ok(Step::Bits(Bits { number, digits }));
    }
    let source = match kind {
        PRODUCT => Source::Product,
        _ if kind == QUOTIENT || kind == QUOTIENT + B as u32 => Source::Quotient { side: (kind - QUOTIENT) as u8 },
        _ if (BIT + A as u32..BITS).contains(&kind) => {
            Source::Bit { side: (kind - BIT) as u8, bit: below(at, values)?, one: below(at, coefficients)? }
        }
        _ => return Err(Bad::Kind),
    };
    let (row, pivot) = (below(at, system.rows())?, writable(below(at, wires)?)?);
    let factor = below(at, coefficients)?;
    let moves = list(at, limits)?;
    if moves.iter().any(|term| writable(term.wire).is_err()) {
        return Err(Bad::Range);
    }
    Ok(Step::Row(Row { row, source, pivot, factor, moves }))
}
