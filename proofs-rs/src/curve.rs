//! BN254 with this crate's multiplication: arkworks' curve, tower and pairing over fields that multiply by `montgomery`.
//!
//! Every constant is arkworks' own, taken over limb by limb, so there is nothing here to mistype. The check that a
//! point of the twist lies in the group is another one: half as long.

use ark_bn254 as theirs;
use ark_ec::bn::{self, BnConfig, TwistType};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::CurveConfig;
use ark_ff::{
    AdditiveGroup, BigInt, Field, Fp, Fp12, Fp12Config, Fp2, Fp2Config, Fp6, Fp6Config, MontBackend, MontConfig, Zero,
};

use crate::montgomery::products;

macro_rules! field {
    ($config:ident, $field:ident, $theirs:ty, $inlining:meta) => {
        pub struct $config;
        pub type $field = Fp<MontBackend<$config, 4>, 4>;

        impl MontConfig<4> for $config {
            const MODULUS: BigInt<4> = <$theirs as MontConfig<4>>::MODULUS;
            const GENERATOR: $field = $field::new_unchecked(<$theirs as MontConfig<4>>::GENERATOR.0);
            const TWO_ADIC_ROOT_OF_UNITY: $field =
                $field::new_unchecked(<$theirs as MontConfig<4>>::TWO_ADIC_ROOT_OF_UNITY.0);

            #[$inlining]
            fn mul_assign(a: &mut $field, b: &$field) {
                a.0 .0 = products([&a.0 .0], [&b.0 .0], &Self::MODULUS.0, Self::INV);
            }

            #[$inlining]
            fn square_in_place(a: &mut $field) {
                a.0 .0 = products([&a.0 .0], [&a.0 .0], &Self::MODULUS.0, Self::INV);
            }

            #[inline]
            fn sum_of_products<const M: usize>(a: &[$field; M], b: &[$field; M]) -> $field {
                let mut total = $field::ZERO;
                for (a, b) in a.chunks(2).zip(b.chunks(2)) {
                    let limbs = match (a, b) {
                        ([a0, a1], [b0, b1]) => {
                            products([&a0.0 .0, &a1.0 .0], [&b0.0 .0, &b1.0 .0], &Self::MODULUS.0, Self::INV)
                        }
                        ([a0], [b0]) => products([&a0.0 .0], [&b0.0 .0], &Self::MODULUS.0, Self::INV),
                        _ => continue,
                    };
                    let part = $field::new_unchecked(BigInt(limbs));
                    total = if M <= 2 { part } else { total + part };
                }
                total
            }
        }
    };
}

field!(FqConfig, Fq, theirs::FqConfig, inline);
// A copy of the multiplication has some KiB in browsers, and what multiplies scalars stands in many places: a call costs
// a hundredth of it.
field!(FrConfig, Fr, theirs::FrConfig, inline(never));

const fn fq(value: theirs::Fq) -> Fq {
    Fq::new_unchecked(value.0)
}

const fn fq2(value: theirs::Fq2) -> Fq2 {
    Fq2::new(fq(value.c0), fq(value.c1))
}

macro_rules! taken {
    ($from:expr, $($at:literal)*) => { &[$(fq2($from[$at])),*] };
}

pub struct Fq2Config;
pub type Fq2 = Fp2<Fq2Config>;

impl Fp2Config for Fq2Config {
    type Fp = Fq;
    const NONRESIDUE: Fq = fq(theirs::Fq2Config::NONRESIDUE);
    const FROBENIUS_COEFF_FP2_C1: &'static [Fq] =
        &[fq(theirs::Fq2Config::FROBENIUS_COEFF_FP2_C1[0]), fq(theirs::Fq2Config::FROBENIUS_COEFF_FP2_C1[1])];

    #[inline(always)]
    fn mul_fp_by_nonresidue_in_place(fe: &mut Fq) -> &mut Fq {
        use ark_ff::AdditiveGroup;
        fe.neg_in_place()
    }
}

#[derive(Clone, Copy)]
pub struct Fq6Config;
pub type Fq6 = Fp6<Fq6Config>;

impl Fp6Config for Fq6Config {
    type Fp2Config = Fq2Config;
    const NONRESIDUE: Fq2 = fq2(theirs::Fq6Config::NONRESIDUE);
    const FROBENIUS_COEFF_FP6_C1: &'static [Fq2] = taken!(theirs::Fq6Config::FROBENIUS_COEFF_FP6_C1, 0 1 2 3 4 5);
    const FROBENIUS_COEFF_FP6_C2: &'static [Fq2] = taken!(theirs::Fq6Config::FROBENIUS_COEFF_FP6_C2, 0 1 2 3 4 5);

    /// (c0 + c1·u)·(9 + u) = (9·c0 − c1) + (9·c1 + c0)·u.
    #[inline(always)]
    fn mul_fp2_by_nonresidue_in_place(fe: &mut Fq2) -> &mut Fq2 {
        let mut nine = *fe;
        nine.double_in_place().double_in_place().double_in_place();
        nine += &*fe;
        *fe = Fq2::new(nine.c0 - fe.c1, nine.c1 + fe.c0);
        fe
    }
}

#[derive(Clone, Copy)]
pub struct Fq12Config;
pub type Fq12 = Fp12<Fq12Config>;

impl Fp12Config for Fq12Config {
    type Fp6Config = Fq6Config;
    const NONRESIDUE: Fq6 = Fq6::new(Fq2::ZERO, Fq2::ONE, Fq2::ZERO);
    const FROBENIUS_COEFF_FP12_C1: &'static [Fq2] =
        taken!(theirs::Fq12Config::FROBENIUS_COEFF_FP12_C1, 0 1 2 3 4 5 6 7 8 9 10 11);
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct G1Config;
pub type G1Affine = Affine<G1Config>;
pub type G1Projective = Projective<G1Config>;

impl CurveConfig for G1Config {
    type BaseField = Fq;
    type ScalarField = Fr;
    const COFACTOR: &'static [u64] = &[1];
    const COFACTOR_INV: Fr = Fr::ONE;
}

impl SWCurveConfig for G1Config {
    const COEFF_A: Fq = Fq::ZERO;
    const COEFF_B: Fq = fq(theirs::g1::Config::COEFF_B);
    const GENERATOR: G1Affine = G1Affine::new_unchecked(fq(theirs::g1::G1_GENERATOR_X), fq(theirs::g1::G1_GENERATOR_Y));

    #[inline(always)]
    fn mul_by_a(_: Fq) -> Fq {
        Fq::zero()
    }

    #[inline]
    fn is_in_correct_subgroup_assuming_on_curve(_: &G1Affine) -> bool {
        true
    }
}

/// β with (x, y) ↦ (βx, y) the multiplication by `LAMBDA` on G1.
const BETA: Fq = fq(<theirs::g1::Config as ark_ec::scalar_mul::glv::GLVConfig>::ENDO_COEFFS[0]);
/// λ, a cube root of one modulo r.
pub const LAMBDA: Fr = Fr::new_unchecked(<theirs::g1::Config as ark_ec::scalar_mul::glv::GLVConfig>::LAMBDA.0);

/// λ·P for the price of one multiplication.
pub fn times_lambda(point: &G1Affine) -> G1Affine {
    G1Affine { x: point.x * BETA, ..*point }
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct G2Config;
pub type G2Affine = Affine<G2Config>;
pub type G2Projective = Projective<G2Config>;

impl CurveConfig for G2Config {
    type BaseField = Fq2;
    type ScalarField = Fr;
    const COFACTOR: &'static [u64] = theirs::g2::Config::COFACTOR;
    const COFACTOR_INV: Fr = Fr::new_unchecked(theirs::g2::Config::COFACTOR_INV.0);
}

/// The curve's parameter x.
const X: u64 = theirs::Config::X[0];

/// ψ, Frobenius carried to the twist: on the group of order r it is the multiplication by q.
fn psi(point: &G2Projective) -> G2Projective {
    let mut moved = *point;
    moved.x.frobenius_map_in_place(1);
    moved.y.frobenius_map_in_place(1);
    moved.z.frobenius_map_in_place(1);
    moved.x *= Config::TWIST_MUL_BY_Q_X;
    moved.y *= Config::TWIST_MUL_BY_Q_Y;
    moved
}

impl SWCurveConfig for G2Config {
    const COEFF_A: Fq2 = Fq2::ZERO;
    const COEFF_B: Fq2 = fq2(theirs::g2::Config::COEFF_B);
    const GENERATOR: G2Affine =
        G2Affine::new_unchecked(fq2(theirs::g2::G2_GENERATOR_X), fq2(theirs::g2::G2_GENERATOR_Y));

    #[inline(always)]
    fn mul_by_a(_: Fq2) -> Fq2 {
        Fq2::zero()
    }

    /// [x+1]P + ψ([x]P) + ψ²([x]P) = ψ³([2x]P): true of the points of order r and of no others.
    /// Source: Dai, Lin, Zhao, Zhou, "Fast subgroup membership testings for G1, G2 and GT" (2022), §4, for BN curves.
    fn is_in_correct_subgroup_assuming_on_curve(point: &G2Affine) -> bool {
        let times_x = Self::mul_affine(point, &[X]);
        let once = psi(&times_x);
        let twice = psi(&once);
        times_x + point + once + twice == psi(&twice).double()
    }
}

pub struct Config;

impl BnConfig for Config {
    const X: &'static [u64] = &[X];
    const X_IS_NEGATIVE: bool = false;
    const ATE_LOOP_COUNT: &'static [i8] = theirs::Config::ATE_LOOP_COUNT;
    const TWIST_MUL_BY_Q_X: Fq2 = fq2(theirs::Config::TWIST_MUL_BY_Q_X);
    const TWIST_MUL_BY_Q_Y: Fq2 = fq2(theirs::Config::TWIST_MUL_BY_Q_Y);
    const TWIST_TYPE: TwistType = TwistType::D;
    type Fp = Fq;
    type Fp2Config = Fq2Config;
    type Fp6Config = Fq6Config;
    type Fp12Config = Fq12Config;
    type G1Config = G1Config;
    type G2Config = G2Config;
}

pub type Bn254 = bn::Bn<Config>;

#[cfg(test)]
mod tests {
    use super::*;
    use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
    use ark_ff::PrimeField;

    /// Points of the twist: those in the group pass, those outside (nearly all) do not; arkworks says the same.
    #[test]
    fn the_group_is_told_from_the_twist() {
        let inside = (G2Projective::generator() * Fr::from(987_654_321u64)).into_affine();
        assert!(inside.is_in_correct_subgroup_assuming_on_curve());
        let mut outside = 0;
        for number in 1..40u64 {
            let Some(point) = G2Affine::get_point_from_x_unchecked(Fq2::new(Fq::from(number), Fq::ONE), true) else {
                continue;
            };
            let by_order = point.mul_bigint(Fr::MODULUS).is_zero();
            assert_eq!(point.is_in_correct_subgroup_assuming_on_curve(), by_order);
            // The cofactor's part of it alone has no component in the group at all.
            let rest = point.mul_bigint(Fr::MODULUS).into_affine();
            assert_eq!(rest.is_in_correct_subgroup_assuming_on_curve(), rest.is_zero());
            outside += usize::from(!by_order);
        }
        assert!(outside > 10);
    }

    #[test]
    fn lambda_is_its_endomorphism() {
        let point = (G1Projective::generator() * Fr::from(77u64)).into_affine();
        assert_eq!(times_lambda(&point), (point * LAMBDA).into_affine());
    }
}
