//! From text to a condition: sqlparser's grammar, and the types of what is compared.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use sqlparser::ast::{BinaryOperator, Expr, Ident, Spanned, UnaryOperator, Value};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

use super::like::Pattern;
use super::{Expression, Field, FileField, Filter, Kind, Operator, ParseError, Scalar};

/// How deep a condition may be nested.
const DEPTH: usize = 100;
/// Bytes of a condition.
const LENGTH: usize = 1 << 16;

/// Stack for parsing: a condition of 64 KiB can be a chain of as many levels as it has operators.
const STACK: usize = 256 << 20;

pub(super) fn parse(text: &str, kind: &(dyn Fn(&str) -> Option<Kind> + Sync)) -> Result<Filter, ParseError> {
    let failed = || ParseError { text: text.to_owned(), at: 0, why: "no memory to parse it".into() };
    std::thread::scope(|scope| {
        let parsing = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || read(text, kind));
        parsing.map_err(|_| failed())?.join().unwrap_or_else(|_| Err(failed()))
    })
}

fn read(text: &str, kind: &dyn Fn(&str) -> Option<Kind>) -> Result<Filter, ParseError> {
    let wrong = |at, why: String| ParseError { text: text.to_owned(), at, why };
    if text.len() > LENGTH {
        return Err(ParseError {
            text: "...".into(),
            at: 0,
            why: "a condition has at most 65536 bytes".into(),
        });
    }
    let of_parser = |error: ParserError| {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => "nested too deep".into(),
        };
        let (why, at) = located(&message, text);
        wrong(at, why)
    };
    let parser = Parser::new(&GenericDialect {}).with_recursion_limit(DEPTH);
    let mut parser = parser.try_with_sql(text).map_err(of_parser)?;
    let parsed = parser.parse_expr().map_err(of_parser)?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let at = offset(next.span.start, text);
        return Err(wrong(at, format!("`{}` does not continue a condition", next.token)));
    }
    let mut reader = Reader { kind, fields: Vec::new() };
    let expression = reader.condition(&parsed).map_err(|(place, why)| wrong(offset(place, text), why))?;
    Ok(Filter { expression, fields: reader.fields })
}

// sqlparser's messages end with their place.
fn located(message: &str, text: &str) -> (String, usize) {
    let parsed = message.rsplit_once(" at Line: ").and_then(|(why, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let column: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some((why.to_owned(), Location { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    match parsed {
        Some((why, place)) => (why, offset(place, text)),
        None => (message.to_owned(), text.chars().count()),
    }
}

// The character at a line and column; the end for no place.
fn offset(place: Location, text: &str) -> usize {
    let end = text.chars().count();
    if place.line == 0 {
        return end;
    }
    let before = text.split_inclusive('\n').take(place.line as usize - 1);
    let before: usize = before.map(|line| line.chars().count()).sum();
    (before + (place.column as usize).saturating_sub(1)).min(end)
}

type Wrong = (Location, String);

struct Reader<'a> {
    kind: &'a dyn Fn(&str) -> Option<Kind>,
    fields: Vec<(Field, Kind)>,
}

impl Reader<'_> {
    fn condition(&mut self, expr: &Expr) -> Result<Expression, Wrong> {
        Ok(match expr {
            Expr::Nested(inner) => self.condition(inner)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                Expression::Not(Box::new(self.condition(expr)?))
            }
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                let mut parts = Vec::new();
                for part in [self.condition(left)?, self.condition(right)?] {
                    match part {
                        Expression::And(more) => parts.extend(more),
                        part => parts.push(part),
                    }
                }
                Expression::And(parts)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                let mut parts = Vec::new();
                for part in [self.condition(left)?, self.condition(right)?] {
                    match part {
                        Expression::Or(more) => parts.extend(more),
                        part => parts.push(part),
                    }
                }
                Expression::Or(parts)
            }
            Expr::BinaryOp { left, op, right } => self.comparison(left, op, right)?,
            Expr::Between { expr, negated, low, high } => {
                let from = self.compare(expr, Operator::GreaterOrEqual, low)?;
                let to = self.compare(expr, Operator::LessOrEqual, high)?;
                negate(Expression::And(vec![from, to]), *negated)
            }
            Expr::InList { expr, list, negated } => {
                let (field, kind) = self.field(expr)?;
                let values = list.iter().map(|value| literal(value, kind)).collect::<Result<_, _>>()?;
                negate(Expression::In { field, values }, *negated)
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), false, *negated)?
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), true, *negated)?
            }
            Expr::IsNull(expr) => Expression::IsNull { field: self.field(expr)?.0 },
            Expr::IsNotNull(expr) => negate(Expression::IsNull { field: self.field(expr)?.0 }, true),
            Expr::IsTrue(expr) => self.truth(expr, true, false)?,
            Expr::IsNotTrue(expr) => self.truth(expr, true, true)?,
            Expr::IsFalse(expr) => self.truth(expr, false, false)?,
            Expr::IsNotFalse(expr) => self.truth(expr, false, true)?,
            Expr::Value(value) => match &value.value {
                Value::Boolean(value) => Expression::Constant(Some(*value)),
                Value::Null => Expression::Constant(None),
                _ => return Err((value.span.start, "a value alone is no condition: compare it".into())),
            },
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let (field, kind) = self.field(expr)?;
                if !matches!(kind, Kind::Bool | Kind::Any) {
                    return Err((expr.span().start, format!("this is {}: compare it", name(kind))));
                }
                Expression::IsTrue { field }
            }
            _ => {
                let why =
                    "conditions are made of = <> < <= > >=, between, in, like, ilike, is null, and, or, not";
                return Err((expr.span().start, why.into()));
            }
        })
    }

    // `x is true` is never unknown.
    fn truth(&mut self, expr: &Expr, wanted: bool, negated: bool) -> Result<Expression, Wrong> {
        let condition = self.condition(expr)?;
        let condition = if wanted { condition } else { Expression::Not(Box::new(condition)) };
        Ok(negate(Expression::Known(Box::new(condition)), negated))
    }

    fn comparison(
        &mut self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
    ) -> Result<Expression, Wrong> {
        let operator = match operator {
            BinaryOperator::Eq => Operator::Equal,
            BinaryOperator::NotEq => Operator::NotEqual,
            BinaryOperator::Lt => Operator::Less,
            BinaryOperator::LtEq => Operator::LessOrEqual,
            BinaryOperator::Gt => Operator::Greater,
            BinaryOperator::GtEq => Operator::GreaterOrEqual,
            other => return Err((left.span().start, format!("`{other}` does not compare"))),
        };
        if is_field(left) || !is_field(right) {
            return self.compare(left, operator, right);
        }
        let turned = match operator {
            Operator::Less => Operator::Greater,
            Operator::LessOrEqual => Operator::GreaterOrEqual,
            Operator::Greater => Operator::Less,
            Operator::GreaterOrEqual => Operator::LessOrEqual,
            same => same,
        };
        self.compare(right, turned, left)
    }

    fn compare(&mut self, field: &Expr, operator: Operator, value: &Expr) -> Result<Expression, Wrong> {
        let (field, kind) = self.field(field)?;
        if is_field(value) {
            return Err((value.span().start, "compare with a value: texts stand in 'single quotes'".into()));
        }
        Ok(match value {
            // Unknown, whatever it is compared with.
            Expr::Value(value) if value.value == Value::Null => Expression::Constant(None),
            value => Expression::Compare { field, operator, value: literal(value, kind)? },
        })
    }

    fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        folds: bool,
        negated: bool,
    ) -> Result<Expression, Wrong> {
        let (field, kind) = self.field(expr)?;
        let place = pattern.span().start;
        if !matches!(kind, Kind::Text | Kind::Any) {
            return Err((expr.span().start, format!("this is {}: like is for texts", name(kind))));
        }
        let Scalar::Text(text) = literal(pattern, Kind::Text)? else {
            return Err((place, "a pattern is a text in 'single quotes'".into()));
        };
        let escape = match escape.map(|escape| literal(escape, Kind::Text)).transpose()? {
            None => '\\',
            Some(Scalar::Text(text)) if text.chars().count() == 1 => text.chars().next().unwrap_or('\\'),
            Some(_) => return Err((place, "escape takes one character".into())),
        };
        let pattern = Pattern::new(&text, escape, folds).map_err(|why| (place, why.to_owned()))?;
        Ok(negate(Expression::Like { field, pattern }, negated))
    }

    // The number and type of the field that an expression is.
    fn field(&mut self, expr: &Expr) -> Result<(usize, Kind), Wrong> {
        let place = expr.span().start;
        let names: Vec<&str> = match expr {
            Expr::Nested(inner) => return self.field(inner),
            Expr::Identifier(ident) => vec![&ident.value],
            Expr::CompoundIdentifier(idents) => {
                idents.iter().map(|Ident { value, .. }| value.as_str()).collect()
            }
            _ => return Err((place, "here stands the name of a field".into())),
        };
        let (field, kind) = match names[..] {
            ["file", name] => file_field(name).ok_or_else(|| {
                let known = "file.path, file.name, file.size, file.uid, file.gid, file.mtime and file.fresh";
                (place, format!("of a file there are {known}"))
            })?,
            ["xattr", name] => (Field::Attribute(name.to_owned()), Kind::Text),
            ["row", "created"] => (Field::Created, Kind::Time),
            ["row", "modified"] => (Field::Modified, Kind::Time),
            ["row", _] => return Err((place, "of a row there are row.created and row.modified".into())),
            ["meta", _, ..] => self.member(names[1..].join(".")),
            _ => self.member(names.join(".")),
        };
        let known = self.fields.iter().position(|(other, _)| *other == field);
        let number = known.unwrap_or_else(|| {
            self.fields.push((field, kind));
            self.fields.len() - 1
        });
        Ok((number, kind))
    }

    fn member(&self, path: String) -> (Field, Kind) {
        let kind = (self.kind)(&path).unwrap_or(Kind::Any);
        (Field::Member(path), kind)
    }
}

fn file_field(name: &str) -> Option<(Field, Kind)> {
    let (field, kind) = match name {
        "path" => (FileField::Path, Kind::Text),
        "name" => (FileField::Name, Kind::Text),
        "size" => (FileField::Size, Kind::Int),
        "uid" => (FileField::Uid, Kind::Int),
        "gid" => (FileField::Gid, Kind::Int),
        "mtime" => (FileField::Mtime, Kind::Time),
        "fresh" => (FileField::Fresh, Kind::Bool),
        _ => return None,
    };
    Some((Field::File(field), kind))
}

fn is_field(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_field(inner),
        expr => matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
    }
}

fn negate(expression: Expression, negated: bool) -> Expression {
    if negated { Expression::Not(Box::new(expression)) } else { expression }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Int | Kind::Float => "a number",
        Kind::Text => "a text",
        Kind::Time => "a time",
        Kind::Any => "any value",
    }
}

// A value that fits a field of this type.
fn literal(expr: &Expr, kind: Kind) -> Result<Scalar, Wrong> {
    let place = expr.span().start;
    let value =
        plain(expr, false).ok_or_else(|| (place, "here stands a value: 1.5, 'text' or true".to_owned()))?;
    let wrong = || (place, format!("the field is {}, this is not", name(kind)));
    match (kind, value) {
        (Kind::Any, value) => Ok(value),
        (Kind::Bool, value @ Scalar::Bool(_))
        | (Kind::Int | Kind::Float, value @ (Scalar::Int(_) | Scalar::Float(_)))
        | (Kind::Text, value @ Scalar::Text(_)) => Ok(value),
        (Kind::Time, Scalar::Int(seconds)) => {
            seconds.checked_mul(1_000_000_000).map(Scalar::Time).ok_or_else(wrong)
        }
        (Kind::Time, Scalar::Text(text)) => time(&text).map(Scalar::Time).ok_or_else(|| {
            (
                place,
                "a time is written '2026-11-21', '2026-11-21T14:30:00Z', or in seconds since 1970".to_owned(),
            )
        }),
        _ => Err(wrong()),
    }
}

fn plain(expr: &Expr, negative: bool) -> Option<Scalar> {
    match expr {
        Expr::Nested(inner) => plain(inner, negative),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if !negative => plain(expr, true),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } if !negative => plain(expr, false),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => {
                let text = if negative { format!("-{digits}") } else { digits.clone() };
                let whole = text.parse().ok().map(Scalar::Int);
                whole.or_else(|| text.parse().ok().filter(|value: &f64| value.is_finite()).map(Scalar::Float))
            }
            _ if negative => None,
            Value::SingleQuotedString(text) => Some(Scalar::Text(text.clone())),
            Value::Boolean(value) => Some(Scalar::Bool(*value)),
            _ => None,
        },
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => Some(Scalar::Text(text.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// Nanoseconds since 1970 of a date, or of a date and time, which is in UTC if it names no zone.
pub(super) fn time(text: &str) -> Option<i64> {
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let plain = || {
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
            .map(|time| time.and_utc())
    };
    let date = || {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(date.and_hms_opt(0, 0, 0)?.and_utc())
    };
    zoned.or_else(plain).or_else(date)?.timestamp_nanos_opt()
}
