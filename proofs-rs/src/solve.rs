//! Witnesses: all wires of a circuit from its inputs, without a program that was compiled for the circuit.
//!
//! The order comes from `plan`. Whatever it says, every constraint is checked at the end, so a wrong value never gets out.

use crate::curve::Fr;
use ark_ff::{AdditiveGroup, BigInt, BigInteger, Field, One, PrimeField};

use crate::bytes::{Bad, Read};
use crate::plan::{self, Bits, Plan, Row, Source, Step};
use crate::plan_file;
use crate::system::{System, A, B, C};
use crate::wtns;

pub struct Solver {
    pub system: System,
    pub plan: Plan,
}

impl Solver {
    /// Out of an .r1cs, whose order is found here, or of what `save` gave.
    pub fn read(file: &[u8]) -> Read<Self> {
        if file.starts_with(plan_file::MAGIC) {
            return plan_file::read(file);
        }
        let (mut system, pool, head, inputs) = System::read(file)?;
        let (plan, pool, inputs) = plan::make(&system, pool, head.outputs, &inputs)?;
        system.coefficients = pool.into_list();
        system.inputs = inputs;
        Ok(Self { system, plan })
    }

    pub fn save(&self) -> Vec<u8> {
        plan_file::write(self)
    }

    /// Bytes of a .wtns.
    pub fn witness_length(&self) -> usize {
        wtns::HEAD + 32 * self.system.wires
    }

    /// The values of all wires. inputs: public ones, then private ones. Mismatch for another number of inputs, Unsatisfied
    /// where a constraint is broken. An input that is no wire and follows from the others is not looked at.
    pub fn solve(&self, inputs: &[Fr]) -> Read<Vec<Fr>> {
        let system = &self.system;
        if inputs.len() != system.inputs.len() {
            return Err(Bad::Mismatch);
        }
        let mut values = vec![Fr::ZERO; self.plan.values];
        for (wire, value) in system.inputs.iter().zip(inputs) {
            values[*wire as usize] = *value;
        }
        values[0] = Fr::one();
        for step in &self.plan.steps {
            match step {
                Step::Row(row) => self.row(row, &mut values)?,
                Step::Bits(bits) => self.bits(bits, &mut values),
            }
        }
        values.truncate(system.wires);
        if (0..system.rows()).all(|row| system.holds(row, &values)) {
            Ok(values)
        } else {
            Err(Bad::Unsatisfied)
        }
    }

    fn row(&self, step: &Row, values: &mut [Fr]) -> Read<()> {
        let sum = |side: usize, values: &[Fr]| self.system.sum(self.system.side(step.row as usize, side), values);
        let (side, wanted) = match step.source {
            Source::Product => (C, sum(A, values) * sum(B, values)),
            Source::Quotient { side } => {
                let divisor = sum(A + B - side as usize, values).inverse().ok_or(Bad::Unsolvable)?;
                (side as usize, sum(C, values) * divisor)
            }
            Source::Bit { side, bit, one } => {
                (side as usize, values[bit as usize] * self.system.coefficients[one as usize])
            }
        };
        let delta = (wanted - sum(side, values)) * self.system.coefficients[step.factor as usize];
        values[step.pivot as usize] += delta;
        for term in &step.moves {
            values[term.wire as usize] += self.system.coefficients[term.coefficient as usize] * delta;
        }
        Ok(())
    }

    fn bits(&self, step: &Bits, values: &mut [Fr]) {
        let number: BigInt<4> = self.system.sum(&step.number, values).into_bigint();
        for (exponent, place) in &step.digits {
            values[*place as usize] = Fr::from(number.get_bit(*exponent as usize));
        }
    }
}
