//! The order in which a circuit's wires follow from its inputs: found once, from the constraints alone.
//!
//! A linear combination whose value is known is an equation on the wires that are not. Where it has one such wire, that
//! wire is known. Where it has more, which circom's --O2 leaves by eliminating wires of its own choice, one of them (its
//! pivot) is expressed by the others, and the combination of pivots and others that comes next may well be determined.
//!
//! When solving, nothing of that is symbolic. Every wire has a value at any time, free wires 0 and pivots what follows, so
//! that a determined combination has its right value: it does not depend on the free ones. A step gives one free wire
//! its value by one constraint, and moves the pivots that depend on it.
//!
//! Which combinations are determined is found by a probe: random numbers for the free wires, what follows for pivots (all
//! without constants), and 0 for what is known. A combination is determined if it is 0 there, but for one chance in
//! 2²⁵⁰, which would only make an order by which nothing can be solved: whoever solves checks every constraint.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::curve::Fr;
use ark_ff::{AdditiveGroup, Field, PrimeField};

use crate::boolean;
use crate::bytes::{Bad, Read};
use crate::system::{Pool, System, Term, A, B, C};

/// Where the value of a step's combination comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// C = A·B.
    Product,
    /// A = C/B, or B = C/A: the divisor must not be 0.
    Quotient { side: u8 },
    /// The side is bit·one: `bit` is a place among the values, `one` of a coefficient.
    Bit { side: u8, bit: u32, one: u32 },
}

/// One wire by one constraint: values[pivot] += δ, then values[wire] += coefficient·δ for each of the moves, where
/// δ = (value of the combination − what it is now)·factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub row: u32,
    pub source: Source,
    pub pivot: u32,
    pub factor: u32,
    pub moves: Vec<Term>,
}

/// Bits of the number Σ coefficient·value over `number`: (exponent, place among the values).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    pub number: Vec<Term>,
    pub digits: Vec<(u8, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Row(Row),
    Bits(Bits),
}

/// values: wires, and bits beyond them.
pub struct Plan {
    pub steps: Vec<Step>,
    pub values: usize,
}

/// A combination of wires, by rising wire, without zeros.
pub type Sparse = Vec<(u32, Fr)>;

#[derive(Clone, PartialEq, Eq)]
pub enum State {
    Known,
    Free,
    /// This combination of free wires, and a constant.
    Pivot(Sparse),
}

/// Entries of all pivots' combinations at most, and what rewriting them may cost: far above what is needed.
const ENTRIES_MAX: usize = 1 << 24;
const WORK_MAX: u64 = 1 << 31;

pub struct Analysis<'s> {
    pub system: &'s System,
    pub pool: Pool,
    pub states: Vec<State>,
    steps: Vec<Step>,
    values: usize,
    /// Where wires stand: (3·row + side, coefficient), from `starts[wire]` on.
    places: Vec<(u32, u32)>,
    starts: Vec<u32>,
    /// Pivots whose combination has, or had, this wire.
    users: HashMap<u32, Vec<u32>>,
    probe: Vec<Fr>,
    /// Each side at the probe.
    sums: Vec<Fr>,
    pub done: Vec<bool>,
    queue: VecDeque<u32>,
    queued: Vec<bool>,
    quotients: VecDeque<u32>,
    entries: usize,
    work: u64,
}

/// Find the order. Unsolvable where wires do not follow from the inputs in these ways, Large where it takes too much.
///
/// inputs: wires of the input signals. What has none was folded by the compiler: into an output that it was assigned to,
/// and then it is the first output that nothing determines when all else is done, in the order of both; or into others
/// that it follows from, and then it is wire 0 in what is returned.
pub fn make(system: &System, pool: Pool, outputs: usize, inputs: &[Option<u32>]) -> Read<(Plan, Pool, Vec<u32>)> {
    let mut analysis = Analysis::new(system, pool);
    let mut given: Vec<u32> = inputs.iter().map(|wire| wire.unwrap_or(0)).collect();
    analysis.start(&given);
    let mut folded = (0..given.len()).filter(|input| inputs[*input].is_none());
    loop {
        analysis.follow()?;
        if boolean::decode(&mut analysis)? || analysis.divide()? {
            continue;
        }
        let open =
            (1..=outputs).find(|wire| analysis.states[*wire] == State::Free && !analysis.has_users(*wire as u32));
        let (Some(wire), Some(input)) = (open, folded.next()) else { break };
        given[input] = wire as u32;
        analysis.known(wire as u32);
    }
    if analysis.states.iter().any(|state| *state != State::Known) {
        return Err(Bad::Unsolvable);
    }
    Ok((Plan { steps: analysis.steps, values: analysis.values }, analysis.pool, given))
}

impl<'s> Analysis<'s> {
    fn new(system: &'s System, pool: Pool) -> Self {
        let (wires, rows) = (system.wires, system.rows());
        let mut starts = vec![0u32; wires + 1];
        for term in &system.terms {
            starts[term.wire as usize + 1] += 1;
        }
        for wire in 0..wires {
            starts[wire + 1] += starts[wire];
        }
        let (mut next, mut places) = (starts.clone(), vec![(0, 0); system.terms.len()]);
        for row in 0..rows {
            for side in [A, B, C] {
                for term in system.side(row, side) {
                    let place = &mut next[term.wire as usize];
                    places[*place as usize] = ((3 * row + side) as u32, term.coefficient);
                    *place += 1;
                }
            }
        }
        Self {
            system,
            pool,
            states: vec![State::Known; wires],
            steps: vec![],
            values: wires,
            places,
            starts,
            users: HashMap::new(),
            probe: vec![Fr::ZERO; wires],
            sums: vec![Fr::ZERO; 3 * rows],
            done: vec![false; rows],
            queue: (0..rows as u32).collect(),
            queued: vec![true; rows],
            quotients: VecDeque::new(),
            entries: 0,
            work: 0,
        }
    }

    /// All but the constant and what is given is free, at random numbers that are the same each time.
    fn start(&mut self, given: &[u32]) {
        self.states[1..].fill(State::Free);
        for wire in given {
            self.states[*wire as usize] = State::Known;
        }
        let (mut numbers, mut bytes) = (blake3::Hasher::new().finalize_xof(), [0u8; 32]);
        for wire in 1..self.states.len() {
            numbers.fill(&mut bytes);
            if self.states[wire] == State::Free {
                self.move_probe(wire, Fr::from_le_bytes_mod_order(&bytes));
            }
        }
    }

    fn move_probe(&mut self, wire: usize, to: Fr) {
        let delta = to - self.probe[wire];
        self.probe[wire] = to;
        for at in self.starts[wire]..self.starts[wire + 1] {
            let (place, coefficient) = self.places[at as usize];
            self.sums[place as usize] += self.pool.value(coefficient) * delta;
            let row = place as usize / 3;
            if !self.done[row] && !self.queued[row] {
                self.queued[row] = true;
                self.queue.push_back(row as u32);
            }
        }
    }

    fn determined(&self, row: usize, side: usize) -> bool {
        self.sums[3 * row + side] == Fr::ZERO
    }

    /// Take every product whose factors are determined, until there is none.
    fn follow(&mut self) -> Read<()> {
        while let Some(row) = self.queue.pop_front() {
            let at = row as usize;
            self.queued[at] = false;
            match [A, B, C].map(|side| self.determined(at, side)) {
                [true, true, true] => self.done[at] = true,
                [true, true, false] => self.take(at, C, Source::Product)?,
                [true, false, true] | [false, true, true] => self.quotients.push_back(row),
                _ => {}
            }
        }
        Ok(())
    }

    /// Take one factor of a product that is determined with its other factor; whether there was one.
    fn divide(&mut self) -> Read<bool> {
        while let Some(row) = self.quotients.pop_front() {
            let at = row as usize;
            let side = match [A, B, C].map(|side| self.determined(at, side)) {
                [true, false, true] => B,
                [false, true, true] => A,
                _ => continue,
            };
            self.take(at, side, Source::Quotient { side: side as u8 })?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The wires of a combination that are not known, pivots replaced by what they are.
    fn unknown(&self, terms: &[Term]) -> Sparse {
        let mut found = BTreeMap::new();
        for term in terms {
            let factor = self.pool.value(term.coefficient);
            match &self.states[term.wire as usize] {
                State::Known => {}
                State::Free => *found.entry(term.wire).or_insert(Fr::ZERO) += factor,
                State::Pivot(others) => {
                    for (wire, value) in others {
                        *found.entry(*wire).or_insert(Fr::ZERO) += factor * value;
                    }
                }
            }
        }
        found.into_iter().filter(|(_, value)| *value != Fr::ZERO).collect()
    }

    /// One wire of that side becomes a pivot, or known.
    fn take(&mut self, row: usize, side: usize, source: Source) -> Read<()> {
        self.done[row] = true;
        let found = self.unknown(self.system.side(row, side));
        // The one that the fewest pivots depend on is the cheapest.
        let count = |wire: &u32| self.users.get(wire).map_or(0, Vec::len);
        let Some((pivot, lead)) = found.iter().min_by_key(|(wire, _)| count(wire)).copied() else {
            return Ok(());
        };
        let factor = lead.inverse().ok_or(Bad::Range)?;
        let others: Sparse =
            found.iter().filter(|(wire, _)| *wire != pivot).map(|(wire, value)| (*wire, -*value * factor)).collect();
        let users = self.users.remove(&pivot).unwrap_or_default();
        let mut moves = Vec::with_capacity(users.len());
        for user in users {
            self.work += 1;
            let State::Pivot(combination) = &mut self.states[user as usize] else { continue };
            let Ok(at) = combination.binary_search_by_key(&pivot, |(wire, _)| *wire) else { continue };
            let share = combination.remove(at).1;
            let sum = added(combination, &others, share);
            self.work += sum.len() as u64;
            self.entries = (self.entries + sum.len()).saturating_sub(combination.len() + 1);
            moves.push(Term { wire: user, coefficient: self.pool.place(share) });
            self.become_pivot(user, sum, &others);
        }
        self.entries += others.len();
        let listed = others.clone();
        self.become_pivot(pivot, others, &listed);
        if self.entries > ENTRIES_MAX || self.work > WORK_MAX {
            return Err(Bad::Large);
        }
        let factor = self.pool.place(factor);
        self.steps.push(Step::Row(Row { row: row as u32, source, pivot, factor, moves }));
        Ok(())
    }

    /// news: wires that the combination did not have before.
    fn become_pivot(&mut self, wire: u32, combination: Sparse, news: &Sparse) {
        let value = combination.iter().map(|(other, factor)| self.probe[*other as usize] * factor).sum();
        if combination.is_empty() {
            self.states[wire as usize] = State::Known;
        } else {
            for (other, _) in news {
                let users = self.users.entry(*other).or_default();
                if users.last() != Some(&wire) && !users.contains(&wire) {
                    users.push(wire);
                }
            }
            self.states[wire as usize] = State::Pivot(combination);
        }
        self.move_probe(wire as usize, value);
    }

    // What `boolean` needs

    pub fn has_users(&self, wire: u32) -> bool {
        self.users.get(&wire).is_some_and(|users| !users.is_empty())
    }

    /// Another place among the values.
    pub fn extra(&mut self) -> u32 {
        self.values += 1;
        (self.values - 1) as u32
    }

    pub fn push_bits(&mut self, bits: Bits) {
        self.steps.push(Step::Bits(bits));
    }

    /// A free wire that no pivot depends on got its value.
    pub fn known(&mut self, wire: u32) {
        self.states[wire as usize] = State::Known;
        self.move_probe(wire as usize, Fr::ZERO);
    }

    /// A side of a constraint got the value bit·one.
    pub fn known_side(&mut self, row: usize, side: usize, bit: u32, one: Fr) -> Read<()> {
        let one = self.pool.place(one);
        self.take(row, side, Source::Bit { side: side as u8, bit, one })
    }
}

/// x + factor·y.
fn added(x: &Sparse, y: &Sparse, factor: Fr) -> Sparse {
    let mut sum = Vec::with_capacity(x.len() + y.len());
    let (mut i, mut j) = (0, 0);
    while i < x.len() || j < y.len() {
        let from_x = j == y.len() || (i < x.len() && x[i].0 <= y[j].0);
        let from_y = i == x.len() || (j < y.len() && y[j].0 <= x[i].0);
        let wire = if from_x { x[i].0 } else { y[j].0 };
        let mut value = Fr::ZERO;
        if from_x {
            value += x[i].1;
            i += 1;
        }
        if from_y {
            value += y[j].1 * factor;
            j += 1;
        }
        if value != Fr::ZERO {
            sum.push((wire, value));
        }
    }
    sum
}
