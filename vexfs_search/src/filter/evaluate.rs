//! Conditions over columns, three-valued, a column at a time.
//!
//! A verdict is a byte a row: 0 false, 1 unknown, 2 true. So `and` is the lesser, `or` the greater, `not x` 2 - x, and the
//! loops over columns have no branches that the compiler could not turn into SIMD. What is cheap to ask is asked first,
//! and what is dear only of the rows that still matter.

use std::cmp::Ordering;

use super::{Expression, Field, FileField, Filter, Operator, Scalar};
use crate::error::Result;
use crate::nearest::RowSet;

const FALSE: u8 = 0;
const UNKNOWN: u8 = 1;
const TRUE: u8 = 2;

/// The values of a field, one a row.
#[derive(Debug)]
pub enum Values<'a> {
    /// 1, 0, or -1 where there is none.
    Bool(&'a [i8]),
    /// `i64::MIN` where there is none.
    Int(&'a [i64]),
    /// NaN where there is none.
    Float(&'a [f64]),
    /// Nanoseconds since 1970; `i64::MIN` where there is none.
    Time(&'a [i64]),
    /// So many bytes each, zeros behind the text; it begins with FF where there is none.
    Text(&'a [u8], usize),
    /// Any.
    Any(Vec<Option<Scalar>>),
}

/// Where values come from.
pub trait Source {
    /// Rows, free ones counted.
    fn rows(&self) -> usize;

    /// The values of a field; only those of rows that are wanted (not 0) need be right.
    fn values(&self, field: &Field, wanted: &[u8]) -> Result<Values<'_>>;
}

impl Filter {
    /// The rows for which it is true, among those that are wanted (not 0).
    pub fn rows(&self, source: &dyn Source, wanted: &[u8]) -> Result<RowSet> {
        let verdicts = self.evaluate(&self.expression, source, wanted)?;
        let chosen = verdicts.iter().zip(wanted).enumerate();
        Ok(chosen
            .filter(|(_, (verdict, wanted))| **verdict == TRUE && **wanted != 0)
            .map(|(row, _)| row)
            .collect())
    }

    fn evaluate(&self, expression: &Expression, source: &dyn Source, wanted: &[u8]) -> Result<Vec<u8>> {
        let constant = |verdict| vec![verdict; wanted.len()];
        Ok(match expression {
            Expression::And(parts) => self.join(parts, source, wanted, TRUE)?,
            Expression::Or(parts) => self.join(parts, source, wanted, FALSE)?,
            Expression::Not(inner) => {
                let mut verdicts = self.evaluate(inner, source, wanted)?;
                verdicts.iter_mut().for_each(|verdict| *verdict = TRUE - *verdict);
                verdicts
            }
            Expression::Constant(value) => {
                constant(value.map_or(UNKNOWN, |value| if value { TRUE } else { FALSE }))
            }
            Expression::Known(inner) => {
                let mut verdicts = self.evaluate(inner, source, wanted)?;
                verdicts.iter_mut().for_each(|verdict| *verdict &= TRUE);
                verdicts
            }
            Expression::Compare { field, operator, value } => {
                compare(&source.values(&self.fields[*field].0, wanted)?, *operator, value, wanted)
            }
            Expression::In { field, values } => {
                let column = source.values(&self.fields[*field].0, wanted)?;
                let mut verdicts = constant(FALSE);
                for value in values {
                    let equal = compare(&column, Operator::Equal, value, wanted);
                    verdicts
                        .iter_mut()
                        .zip(equal)
                        .for_each(|(verdict, equal)| *verdict = equal.max(*verdict));
                }
                verdicts
            }
            Expression::Like { field, pattern } => {
                let column = source.values(&self.fields[*field].0, wanted)?;
                texts(&column, wanted, |text| pattern.matches(text))
            }
            Expression::IsNull { field } => is_null(&source.values(&self.fields[*field].0, wanted)?),
            Expression::IsTrue { field } => compare(
                &source.values(&self.fields[*field].0, wanted)?,
                Operator::Equal,
                &Scalar::Bool(true),
                wanted,
            ),
        })
    }

    // `and`, which begins with true, or `or`, which begins with false.
    fn join(&self, parts: &[Expression], source: &dyn Source, wanted: &[u8], begin: u8) -> Result<Vec<u8>> {
        let mut parts: Vec<&Expression> = parts.iter().collect();
        parts.sort_by_key(|part| self.cost(part));
        let mut verdicts = vec![begin; wanted.len()];
        let mut open = wanted.to_vec();
        for part in parts {
            if open.iter().all(|wanted| *wanted == 0) {
                break;
            }
            let found = self.evaluate(part, source, &open)?;
            for ((verdict, found), open) in verdicts.iter_mut().zip(found).zip(&mut open) {
                *verdict = if begin == TRUE { found.min(*verdict) } else { found.max(*verdict) };
                // Settled: nothing changes it any more.
                *open &= u8::from(*verdict != TRUE - begin);
            }
        }
        Ok(verdicts)
    }

    // What asking costs a row, from 0.
    fn cost(&self, expression: &Expression) -> u32 {
        match expression {
            Expression::And(parts) | Expression::Or(parts) => {
                parts.iter().map(|part| self.cost(part)).max().unwrap_or(0)
            }
            Expression::Not(inner) | Expression::Known(inner) => self.cost(inner),
            Expression::Constant(_) => 0,
            Expression::Compare { field, .. }
            | Expression::In { field, .. }
            | Expression::Like { field, .. }
            | Expression::IsNull { field }
            | Expression::IsTrue { field } => match &self.fields[*field] {
                (Field::Member(_), kind) if *kind != super::Kind::Any => 1,
                (Field::Created | Field::Modified, _) => 1,
                (Field::Member(_), _) => 2,
                (Field::File(FileField::Path | FileField::Name), _) => 3,
                (Field::File(FileField::Fresh) | Field::Attribute(_), _) => 5,
                (Field::File(_), _) => 4,
            },
        }
    }
}

fn verdict(is_null: bool, holds: bool) -> u8 {
    if is_null { UNKNOWN } else { u8::from(holds) * TRUE }
}

// The operator is chosen outside of the loop.
fn by_operator<T: PartialOrd + Copy>(
    values: &[T],
    operator: Operator,
    null: impl Fn(T) -> bool,
    to: T,
) -> Vec<u8> {
    fn all<T: Copy>(values: &[T], null: impl Fn(T) -> bool, holds: impl Fn(T) -> bool) -> Vec<u8> {
        values.iter().map(|value| verdict(null(*value), holds(*value))).collect()
    }
    match operator {
        Operator::Equal => all(values, null, |value| value == to),
        Operator::NotEqual => all(values, null, |value| value != to),
        Operator::Less => all(values, null, |value| value < to),
        Operator::LessOrEqual => all(values, null, |value| value <= to),
        Operator::Greater => all(values, null, |value| value > to),
        Operator::GreaterOrEqual => all(values, null, |value| value >= to),
    }
}

// Texts are compared only where it matters.
fn compare(values: &Values<'_>, operator: Operator, to: &Scalar, wanted: &[u8]) -> Vec<u8> {
    match (values, to) {
        (Values::Bool(values), Scalar::Bool(to)) => {
            by_operator(values, operator, |value| value < 0, i8::from(*to))
        }
        (Values::Int(values), Scalar::Int(to)) | (Values::Time(values), Scalar::Time(to)) => {
            by_operator(values, operator, |value| value == i64::MIN, *to)
        }
        (Values::Int(values), Scalar::Float(to)) => values
            .iter()
            .map(|value| verdict(*value == i64::MIN, holds(operator, whole_and_float(*value, *to))))
            .collect(),
        (Values::Float(values), Scalar::Float(to)) => by_operator(values, operator, f64::is_nan, *to),
        (Values::Float(values), Scalar::Int(to)) => values
            .iter()
            .map(|value| {
                verdict(value.is_nan(), holds(operator, whole_and_float(*to, *value).map(Ordering::reverse)))
            })
            .collect(),
        (Values::Text(bytes, width), Scalar::Text(to)) => {
            let entries = bytes.chunks_exact((*width).max(1)).zip(wanted);
            if !matches!(operator, Operator::Equal | Operator::NotEqual) {
                let order = |entry: &[u8]| Some(trimmed(entry).cmp(to.as_bytes()));
                return judged(entries, |entry| holds(operator, order(entry)));
            }
            // Whole entries, zeros and all.
            let mut padded = to.as_bytes().to_vec();
            padded.resize((*width).max(to.len()), 0);
            let equal = operator == Operator::Equal;
            judged(entries, |entry| (entry == padded) == equal)
        }
        (Values::Any(values), to) => values
            .iter()
            .map(|value| match value.as_ref().and_then(|value| order(value, to)) {
                Some(order) => u8::from(holds(operator, Some(order))) * TRUE,
                None => UNKNOWN,
            })
            .collect(),
        (values, _) => vec![UNKNOWN; len(values)],
    }
}

// The verdicts on entries of texts.
fn judged<'e>(entries: impl Iterator<Item = (&'e [u8], &'e u8)>, holds: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let judge = |(entry, wanted): (&'e [u8], &u8)| {
        if *wanted == 0 { UNKNOWN } else { verdict(entry[0] == 0xff, holds(entry)) }
    };
    entries.map(judge).collect()
}

fn holds(operator: Operator, order: Option<Ordering>) -> bool {
    let Some(order) = order else { return false };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    }
}

// Exactly, also where the whole number is no double.
fn whole_and_float(whole: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // The doubles from -2^63 up to, not including, 2^63 have whole parts that fit.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float >= LIMIT {
        return Some(Ordering::Less);
    }
    if float < -LIMIT {
        return Some(Ordering::Greater);
    }
    let floor = float.floor();
    Some(whole.cmp(&(floor as i64)).then(if float > floor { Ordering::Less } else { Ordering::Equal }))
}

// The order of two values of one kind; none of different kinds.
fn order(value: &Scalar, to: &Scalar) -> Option<Ordering> {
    match (value, to) {
        (Scalar::Bool(value), Scalar::Bool(to)) => Some(value.cmp(to)),
        (Scalar::Int(value), Scalar::Int(to)) | (Scalar::Time(value), Scalar::Time(to)) => {
            Some(value.cmp(to))
        }
        (Scalar::Int(value), Scalar::Float(to)) => whole_and_float(*value, *to),
        (Scalar::Float(value), Scalar::Int(to)) => whole_and_float(*to, *value).map(Ordering::reverse),
        (Scalar::Float(value), Scalar::Float(to)) => value.partial_cmp(to),
        (Scalar::Text(value), Scalar::Text(to)) => Some(value.as_bytes().cmp(to.as_bytes())),
        _ => None,
    }
}

fn trimmed(entry: &[u8]) -> &[u8] {
    let mut end = entry.len();
    while end >= 8 && entry[end - 8..end] == [0; 8] {
        end -= 8;
    }
    let end = entry[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &entry[..end]
}

fn texts(values: &Values<'_>, wanted: &[u8], holds: impl Fn(&str) -> bool) -> Vec<u8> {
    match values {
        Values::Text(bytes, width) => {
            let entries = bytes.chunks_exact((*width).max(1)).zip(wanted);
            judged(entries, |entry| std::str::from_utf8(trimmed(entry)).is_ok_and(&holds))
        }
        Values::Any(values) => {
            let text = |value: &Option<Scalar>, wanted| match value {
                Some(Scalar::Text(text)) if wanted != 0 => u8::from(holds(text)) * TRUE,
                _ => UNKNOWN,
            };
            values.iter().zip(wanted).map(|(value, wanted)| text(value, *wanted)).collect()
        }
        values => vec![UNKNOWN; len(values)],
    }
}

fn is_null(values: &Values<'_>) -> Vec<u8> {
    fn all<T>(values: impl Iterator<Item = T>, null: impl Fn(T) -> bool) -> Vec<u8> {
        values.map(|value| u8::from(null(value)) * TRUE).collect()
    }
    match values {
        Values::Bool(values) => all(values.iter(), |value| *value < 0),
        Values::Int(values) | Values::Time(values) => all(values.iter(), |value| *value == i64::MIN),
        Values::Float(values) => all(values.iter(), |value| value.is_nan()),
        Values::Text(bytes, width) => all(bytes.chunks_exact((*width).max(1)), |entry| entry[0] == 0xff),
        Values::Any(values) => all(values.iter(), Option::is_none),
    }
}

fn len(values: &Values<'_>) -> usize {
    match values {
        Values::Bool(values) => values.len(),
        Values::Int(values) | Values::Time(values) => values.len(),
        Values::Float(values) => values.len(),
        Values::Text(bytes, width) => bytes.len() / (*width).max(1),
        Values::Any(values) => values.len(),
    }
}
