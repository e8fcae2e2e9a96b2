//! A circuit that has one of each: bits of which one is no wire, a product, two wires of which only sums are known, and a
//! quotient. Its files changed at random are refused or solved, never more, in bounded memory.
//!
//!     FUZZ_INPUTS=300000 cargo test --release --lib changed_files -- --nocapture

use std::alloc::{GlobalAlloc, Layout, System as Native};
use std::cell::Cell;

use crate::bytes::Bad;
use crate::curve::Fr;
use crate::numbers::{to_plain, unsigned};
use crate::solve::Solver;
use ark_ff::{AdditiveGroup, Field, PrimeField};

/// Bytes that this thread has allocated, and the most that it had: tests run beside each other.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.get() + layout.size();
        NOW.set(now);
        MOST.set(MOST.get().max(now));
        Native.alloc(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // What one thread allocated another may free.
        NOW.set(NOW.get().saturating_sub(layout.size()));
        Native.dealloc(at, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Side = Vec<(u32, i64)>;

fn field(value: i64) -> Fr {
    let size = Fr::from(value.unsigned_abs());
    if value < 0 {
        -size
    } else {
        size
    }
}

/// An .r1cs: wire 1 is the output, then come the inputs, all private.
fn r1cs(wires: u32, inputs: u32, rows: &[[Side; 3]]) -> Vec<u8> {
    let mut body = vec![];
    for side in rows.iter().flatten() {
        body.extend((side.len() as u32).to_le_bytes());
        for (wire, value) in side {
            body.extend(wire.to_le_bytes());
            body.extend(to_plain(&field(*value)));
        }
    }
    let mut head = 32u32.to_le_bytes().to_vec();
    head.extend(unsigned(&Fr::MODULUS));
    for number in [wires, 1, 0, inputs] {
        head.extend(number.to_le_bytes());
    }
    head.extend(u64::from(wires).to_le_bytes());
    head.extend((rows.len() as u32).to_le_bytes());
    let labels: Vec<u8> = (0..u64::from(wires)).flat_map(u64::to_le_bytes).collect();
    let mut file = b"r1cs".to_vec();
    for number in [1u32, 3] {
        file.extend(number.to_le_bytes());
    }
    for (number, bytes) in [(2u32, body), (1, head), (3, labels)] {
        file.extend(number.to_le_bytes());
        file.extend((bytes.len() as u64).to_le_bytes());
        file.extend(bytes);
    }
    file
}

const NUMBER: u32 = 2;
const X: u32 = 3;
const Y: u32 = 4;
/// Bits 1 to 7 of the number.
const BITS: u32 = 5;
const PRODUCT: u32 = 12;
const U: u32 = 13;
const V: u32 = 14;
const RATIO: u32 = 15;

fn circuit() -> Vec<u8> {
    let mut rows: Vec<[Side; 3]> =
        (0..7).map(|at| [vec![(0, -1), (BITS + at, 1)], vec![(BITS + at, 1)], vec![]]).collect();
    let mut lowest = vec![(NUMBER, 1)];
    lowest.extend((0..7).map(|at| (BITS + at, -(2 << at))));
    let mut less = vec![(0, -1)];
    less.extend(&lowest);
    rows.push([less, lowest, vec![]]);
    rows.push([vec![(X, 1)], vec![(Y, 1)], vec![(PRODUCT, 1)]]);
    // u + 2v = x²; (u + 2v)·y = u + 3v: only now both are known.
    rows.push([vec![(U, 1), (V, 2)], vec![(Y, 1)], vec![(U, 1), (V, 3)]]);
    rows.push([vec![(X, -1)], vec![(X, -1)], vec![(U, 1), (V, 2)]]);
    rows.push([vec![(RATIO, 1)], vec![(X, 1)], vec![(PRODUCT, 1), (NUMBER, 1)]]);
    // A constant factor is no product: out = 3·(ratio + u).
    rows.push([vec![(0, 3)], vec![(RATIO, 1), (U, 1)], vec![(1, 1)]]);
    r1cs(16, 3, &rows)
}

fn inputs(number: i64, x: i64, y: i64) -> Vec<Fr> {
    [number, x, y].map(field).to_vec()
}

fn expected(number: i64, x: i64, y: i64) -> Vec<Fr> {
    let [n, x, y] = [number, x, y].map(field);
    let square = x * x;
    let v = square * y - square;
    let u = square - v - v;
    let ratio = (x * y + n) * x.inverse().unwrap_or(Fr::ZERO);
    let mut values = vec![field(1), (ratio + u) * field(3), n, x, y];
    values.extend((1..8).map(|at| field(number >> at & 1)));
    values.extend([x * y, u, v, ratio]);
    values
}

#[test]
fn every_way_to_solve() {
    let solver = Solver::read(&circuit()).unwrap();
    for (number, x, y) in [(0, 1, 1), (255, 7, -3), (170, -1, 0), (1, 1 << 40, 1 << 50)] {
        assert_eq!(solver.solve(&inputs(number, x, y)), Ok(expected(number, x, y)));
    }
    for number in [256, -1] {
        assert_eq!(solver.solve(&inputs(number, 1, 1)), Err(Bad::Unsatisfied));
    }
    assert_eq!(solver.solve(&inputs(3, 0, 1)), Err(Bad::Unsolvable));
    assert_eq!(solver.solve(&[field(1)]), Err(Bad::Mismatch));
    let saved = solver.save();
    let again = Solver::read(&saved).unwrap();
    assert_eq!(again.save(), saved);
    assert_eq!(again.solve(&inputs(255, 7, -3)), Ok(expected(255, 7, -3)));
}

#[test]
fn what_does_not_follow_is_unsolvable() {
    // w·w = input has two roots; a wire that stands nowhere has no value at all.
    let square = [vec![(3, 1)], vec![(3, 1)], vec![(2, 1)]];
    let output = [vec![(2, 1)], vec![(2, 1)], vec![(1, 1)]];
    for (wires, rows) in [(4, vec![square, output.clone()]), (4, vec![output])] {
        assert_eq!(Solver::read(&r1cs(wires, 1, &rows)).err(), Some(Bad::Unsolvable));
    }
}

#[test]
fn changed_files() {
    let count: usize = std::env::var("FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let files = [circuit(), Solver::read(&circuit()).unwrap().save()];
    let given = inputs(170, 5, 9);
    let mut state = 1u64;
    let mut random = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let (mut solved, mut refused, mut broken) = (0, 0, 0);
    for number in 0..count {
        let mut file = files[number % 2].clone();
        for _ in 0..1 + random(3) {
            let at = random(file.len());
            match random(6) {
                0 => file[at] = random(256) as u8,
                1 => file[at] ^= 1 << random(8),
                2 => file.truncate(at + 1),
                3 => file[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
                4 => {
                    let part = file[at..(at + 1 + random(60)).min(file.len())].to_vec();
                    file.splice(at..at, part);
                }
                _ => drop(file.drain(at..(at + 1 + random(8)).min(file.len() - 1).max(at))),
            }
        }
        let before = NOW.get();
        MOST.set(before);
        match Solver::read(&file) {
            Err(_) => refused += 1,
            Ok(solver) => match solver.solve(&given) {
                Ok(values) => {
                    assert!((0..solver.system.rows()).all(|row| solver.system.holds(row, &values)));
                    solved += 1;
                }
                Err(_) => broken += 1,
            },
        }
        // The tables of all inputs that a header may claim take 50 MiB; everything else is as long as the file.
        let most = MOST.get() - before;
        assert!(most < (80 << 20), "input {number} of {} bytes took {most}", file.len());
    }
    println!("{count} files: {refused} refused, {broken} not solved, {solved} solved");
    assert!(solved > 0 && broken > 0 && refused > 0);
}
