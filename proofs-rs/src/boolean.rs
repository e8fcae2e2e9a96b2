//! Bits out of a number: no product gives them, only that each is 0 or 1 and that their weighted sum is known.
//!
//! A constraint (x − u)·(x − v) = 0 with u ≠ v says that y = (x − u)/(v − u) is 0 or 1, x being any combination of wires.
//! After circom's --O2 some bits are no wires: they stand as such combinations of others, among them numbers that a wire
//! was kept for. Those are eliminated here. What is left is Σ cᵢ·yᵢ = a known number, and where the cᵢ are, up to a factor,
//! different powers of two, the yᵢ are its binary digits.

use std::collections::{BTreeMap, HashMap};

use crate::curve::Fr;
use ark_ff::{AdditiveGroup, Field, One};

use crate::bytes::Read;
use crate::plan::{Analysis, Bits, State};
use crate::system::{powers_of_two, Term, A, B, C};

/// Exponents that a number below r can have without a second decomposition.
const EXPONENTS: i32 = 253;
/// Terms in the combinations of one `decode` at most: with more it gives up.
const TERMS_MAX: usize = 1 << 22;

/// A constraint by which `side`, as a combination of wires, is 0 or `one`.
struct Form {
    row: usize,
    side: usize,
    one: Fr,
}

/// Combinations by wire, or by wires + row for the bit of a form.
type Sum = BTreeMap<u32, Fr>;

/// Constant, and the rest up to a factor: rest·(x + shift).
fn parts(analysis: &Analysis, row: usize, side: usize) -> (Fr, Vec<(u32, Fr)>) {
    let mut constant = Fr::ZERO;
    let mut rest = vec![];
    for term in analysis.system.side(row, side) {
        let value = analysis.pool.value(term.coefficient);
        if term.wire == 0 {
            constant = value;
        } else {
            rest.push((term.wire, value));
        }
    }
    (constant, rest)
}

/// The form of a constraint, if it is one. Terms stand by rising wire.
fn form(analysis: &Analysis, row: usize) -> Option<Form> {
    let [(a0, a), (b0, b), (c0, c)] = [A, B, C].map(|side| parts(analysis, row, side));
    let (&(_, a1), &(_, b1)) = (a.first()?, b.first()?);
    let same = |x: &[(u32, Fr)], x1: Fr, y: &[(u32, Fr)], y1: Fr| {
        x.len() == y.len() && x.iter().zip(y).all(|(p, q)| p.0 == q.0 && p.1 * y1 == q.1 * x1)
    };
    if c0 != Fr::ZERO || !same(&a, a1, &b, b1) {
        return None;
    }
    if c.is_empty() {
        // a1·(x + a0/a1) · b1·(x + b0/b1): where B is 0, A is a0 − a1·b0/b1. The side without a constant is the bit.
        let (side, one) = if a0 != Fr::ZERO && b0 == Fr::ZERO {
            (B, -b1 * a0 * a1.inverse()?)
        } else {
            (A, a0 - a1 * b0 * b1.inverse()?)
        };
        return (one != Fr::ZERO).then_some(Form { row, side, one });
    }
    // a1·x · b1·x = c1·x: x is 0 or c1/(a1·b1).
    let &(_, c1) = c.first()?;
    let fits = a0 == Fr::ZERO && b0 == Fr::ZERO && same(&a, a1, &c, c1);
    fits.then(|| Some(Form { row, side: A, one: c1 * b1.inverse()? }))?
}

/// Decode every number that can be; whether there was one.
pub fn decode(analysis: &mut Analysis) -> Read<bool> {
    let wires = analysis.system.wires as u32;
    let (mut bits, mut forms) = (HashMap::new(), BTreeMap::new());
    for row in (0..analysis.system.rows()).filter(|row| !analysis.done[*row]) {
        let Some(form) = form(analysis, row) else { continue };
        match analysis.system.side(row, form.side) {
            [term] if term.wire > 0 && analysis.pool.value(term.coefficient) == form.one => {
                bits.insert(term.wire, ());
            }
            terms if terms.iter().any(|term| matches!(analysis.states[term.wire as usize], State::Pivot(_))) => {}
            _ => {
                forms.insert(wires + row as u32, form);
            }
        }
    }
    let found = relations(analysis, &forms, |wire| bits.contains_key(&wire) && !analysis.has_users(wire));
    let powers = powers_of_two();
    let mut decoded = false;
    for relation in found {
        let unknown = |place: &u32| *place >= wires || analysis.states[*place as usize] == State::Free;
        let (digits, number): (Vec<_>, Vec<_>) = relation.into_iter().partition(|(place, _)| unknown(place));
        let Some((exponents, unit)) = exponents(&digits, &powers) else { continue };
        if forms_done(analysis, &forms, &digits) {
            continue;
        }
        // Σ number + unit·Σ 2ᵉ·y = 0.
        let Some(scale) = unit.inverse() else { continue };
        let number = number
            .into_iter()
            .map(|(wire, value)| Term { wire, coefficient: analysis.pool.place(-value * scale) })
            .collect();
        let mut places = vec![];
        let mut sides = vec![];
        for ((place, _), exponent) in digits.iter().zip(exponents) {
            let target = if *place < wires { *place } else { analysis.extra() };
            places.push((exponent, target));
            if let Some(form) = forms.get(place) {
                sides.push((form, target));
            }
        }
        analysis.push_bits(Bits { number, digits: places });
        for (place, _) in digits.iter().filter(|(place, _)| *place < wires) {
            analysis.known(*place);
        }
        for (form, target) in sides {
            analysis.known_side(form.row, form.side, target, form.one)?;
        }
        decoded = true;
    }
    Ok(decoded)
}

fn forms_done(analysis: &Analysis, forms: &BTreeMap<u32, Form>, digits: &[(u32, Fr)]) -> bool {
    digits.iter().any(|(place, _)| forms.get(place).is_some_and(|form| analysis.done[form.row]))
}

/// Sums that are 0 and have nothing unknown but bits: of all forms, wires that are no bits are eliminated.
fn relations(analysis: &Analysis, forms: &BTreeMap<u32, Form>, bit: impl Fn(u32) -> bool) -> Vec<Sum> {
    let wires = analysis.system.wires as u32;
    let open = |place: u32| place < wires && analysis.states[place as usize] == State::Free && !bit(place);
    let mut order: Vec<_> = forms.iter().collect();
    order.sort_by_key(|(_, form)| analysis.system.side(form.row, form.side).len());
    let (mut found, mut pivots, mut size) = (vec![], HashMap::<u32, Sum>::new(), 0);
    for (place, form) in order {
        let mut sum = Sum::new();
        for term in analysis.system.side(form.row, form.side) {
            sum.insert(term.wire, analysis.pool.value(term.coefficient));
        }
        sum.insert(*place, -form.one);
        while let Some((wire, known)) = sum.keys().find_map(|wire| pivots.get(wire).map(|known| (*wire, known))) {
            let factor = sum.remove(&wire).unwrap_or(Fr::ZERO);
            for (other, value) in known {
                let entry = sum.entry(*other).or_insert(Fr::ZERO);
                *entry += factor * value;
                if *entry == Fr::ZERO {
                    sum.remove(other);
                }
            }
        }
        size += sum.len();
        if size > TERMS_MAX {
            return vec![];
        }
        match sum.keys().copied().find(|wire| open(*wire)) {
            None => found.push(sum),
            Some(wire) => {
                let lead = sum.remove(&wire).and_then(|lead| lead.inverse()).unwrap_or(Fr::one());
                sum.values_mut().for_each(|value| *value *= -lead);
                pivots.insert(wire, sum);
            }
        }
    }
    found
}

/// Exponents, and the factor without them; none where the coefficients are not different powers of two.
fn exponents(digits: &[(u32, Fr)], powers: &HashMap<Fr, i32>) -> Option<(Vec<u8>, Fr)> {
    let &(_, first) = digits.first()?;
    let by_first = first.inverse()?;
    let relative: Vec<i32> =
        digits.iter().map(|(_, value)| powers.get(&(*value * by_first)).copied()).collect::<Option<_>>()?;
    let least = *relative.iter().min()?;
    let mut seen = [false; EXPONENTS as usize];
    let mut found = vec![];
    for exponent in relative {
        let place = exponent - least;
        let free = seen.get_mut(place as usize)?;
        if core::mem::replace(free, true) {
            return None;
        }
        found.push(place as u8);
    }
    // `first` is 2^(its own exponent − least) units, its own one being 0.
    let unit = first * Fr::from(2u64).pow([(-least) as u64]).inverse()?;
    Some((found, unit))
}
