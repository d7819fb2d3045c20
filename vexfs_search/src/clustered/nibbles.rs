//! Four bits a dimension of a rotated vector: what ranks candidates again before whole vectors are read.
//!
//! An entry `v` is kept as the number `n` of the step of 1/16 of the vector's range that it lies in, so it is about
//! `step * (n - 7.5)`; one factor for all makes the estimate of an inner product exact for the vector itself. A query is
//! rounded to 8 bits with a sign, and sums are whole numbers, the same on every CPU.

use crate::cpu::Cpu;

/// Share of the largest entry that the range reaches to: the few beyond are cut, and all others kept finer.
const RANGE: f32 = 0.9;
/// Steps, and the middle between the lowest and the highest.
const STEPS: f32 = 16.0;
const MIDDLE: f32 = 7.5;

/// Bytes of a code: two dimensions each.
pub(crate) const fn len(dimensions: usize) -> usize {
    dimensions.div_ceil(2)
}

/// The code of a rotated vector, appended to `code`; gives the factor of its products.
pub(crate) fn encode(point: &[f32], code: &mut Vec<u8>) -> f32 {
    let largest = point.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { STEPS / (2.0 * RANGE * largest) } else { 0.0 };
    let number = |value: &f32| (value * scale + STEPS / 2.0).clamp(0.0, STEPS - 1.0) as u8;
    let (mut square, mut product) = (0.0, 0.0);
    for pair in point.chunks(2) {
        let numbers = [number(&pair[0]), pair.get(1).map_or(0, number)];
        code.push(numbers[0] | numbers[1] << 4);
        for (value, number) in pair.iter().zip(numbers) {
            square += value * value;
            product += value * (f32::from(number) - MIDDLE);
        }
    }
    if product > 0.0 { square / product } else { 0.0 }
}

/// A rotated query as codes are compared with it.
#[derive(Clone, Debug)]
pub(crate) struct Rounded {
    /// Every other value, from the first on.
    even: Vec<i8>,
    /// The others.
    odd: Vec<i8>,
    /// What one unit of a value stands for.
    unit: f32,
    /// What the steps' middle adds to every sum.
    middle: f32,
}

impl Rounded {
    /// The rounded query.
    pub(crate) fn new(query: &[f32]) -> Self {
        let largest = query.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let rounded = |value: Option<&f32>| value.map_or(0, |value| (value / unit).round() as i8);
        let even: Vec<i8> = query.chunks(2).map(|pair| rounded(pair.first())).collect();
        let odd: Vec<i8> = query.chunks(2).map(|pair| rounded(pair.get(1))).collect();
        let sum: i32 = even.iter().chain(&odd).map(|value| i32::from(*value)).sum();
        Self { even, odd, unit, middle: MIDDLE * sum as f32 }
    }

    /// The estimate of the query's product with a code's vector.
    #[inline(always)]
    pub(crate) fn product<C: Cpu>(&self, cpu: C, code: &[u8], factor: f32) -> f32 {
        factor * self.unit * (cpu.nibbles(code, &self.even, &self.odd) as f32 - self.middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustered::rotation::{Random, Rotation};
    use crate::cpu::Portable;

    #[test]
    fn estimates_are_near_to_products_in_double_precision() {
        for dimensions in [1, 2, 3, 65, 384, 1000] {
            let rotation = Rotation::new(dimensions);
            let mut random = Random(11);
            let mut vector = || {
                let value = |random: &mut Random| (random.next() >> 40) as f32 / 8e6 - 1.0;
                let mut vector: Vec<f32> = (0..dimensions).map(|_| value(&mut random)).collect();
                rotation.turn(&mut vector);
                vector
            };
            let mut error = 0.0;
            for _ in 0..50 {
                let (point, query) = (vector(), vector());
                let mut code = Vec::new();
                let factor = encode(&point, &mut code);
                assert_eq!(code.len(), len(dimensions));
                let sum = |a: &[f32], b: &[f32]| {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                };
                let lengths = (sum(&point, &point) * sum(&query, &query)).sqrt();
                let estimate = f64::from(Rounded::new(&query).product(Portable, &code, factor));
                error += ((estimate - sum(&point, &query)) / lengths).powi(2) / 50.0;
                let own = f64::from(Rounded::new(&point).product(Portable, &code, factor));
                assert!((own / sum(&point, &point) - 1.0).abs() < 0.02, "{dimensions}: {own}");
            }
            // A step of 1/16 of the range, spread over the dimensions.
            let bound = 0.17 / f64::from(dimensions as u32).sqrt();
            assert!(error.sqrt() < bound, "{dimensions}: {} of {bound}", error.sqrt());
        }
    }

    #[test]
    fn zeros_are_near_to_nothing() {
        let mut code = Vec::new();
        let factor = encode(&[0.0; 7], &mut code);
        assert_eq!((factor, code.len()), (0.0, 4));
        assert_eq!(Rounded::new(&[1.0; 7]).product(Portable, &code, factor), 0.0);
        let factor = encode(&[1.0; 7], &mut code);
        assert_eq!(Rounded::new(&[0.0; 7]).product(Portable, &code[4..], factor), 0.0);
    }
}
