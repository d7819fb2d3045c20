//! `vexfs query`: the vectors whose metadata and files meet a condition, by the paths of their files.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use vexfs_search::filter::{Scalar, Source, Table, Values};

use crate::arguments::{Common, Query};
use crate::chunk::{self, Chunk};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;
use crate::table::{self, Files};

pub(crate) fn run(arguments: &Query, common: &Common) -> Result<(), Failure> {
    let start = Instant::now();
    let place = Place::new(&arguments.collection, None, common)?;
    place.existing()?;
    let files = Files::open(&place)?;
    let table = table::open(&place, &files)?;
    let live = files.live();
    let condition = arguments.condition.as_deref().unwrap_or("true");
    let chosen = table::filter(&table, condition)?.rows(&table, &live)?;
    let met = chosen.len();
    let mut rows: Vec<usize> = (0..files.rows()).filter(|row| chosen.contains(*row)).collect();
    rows.retain(|row| files.path(*row).is_some());
    let reached = rows.len();
    if let Some(text) = &arguments.order_by {
        sort(&mut rows, &table, text, arguments.descending)?;
    }
    rows.truncate(arguments.limit.unwrap_or(usize::MAX));
    if arguments.explain {
        let all = live.iter().filter(|live| **live != 0).count();
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        let columns = table::columns(&place.existing()?);
        let columns: Vec<String> = columns.into_iter().map(|(name, ..)| name).collect();
        let columns = if columns.is_empty() { "none".into() } else { columns.join(", ") };
        eprintln!(
            "rows    {all} looked at, {met} meet the condition, {reached} are of files that you can reach"
        );
        eprintln!("columns {columns}; other members are read from metadata.jsonl");
        eprintln!("took    {milliseconds:.1} ms");
    }
    if arguments.count {
        if common.json {
            output::line(&json!({"count": reached}))?;
        } else {
            println!("{reached}");
        }
        return Ok(());
    }
    print(&rows, arguments, common, &table, &files)
}

fn print(
    rows: &[usize],
    arguments: &Query,
    common: &Common,
    table: &Table<'_>,
    files: &Files<'_>,
) -> Result<(), Failure> {
    if arguments.paths {
        let end: &[u8] = if arguments.null { b"\0" } else { b"\n" };
        let mut out = io::stdout().lock();
        let mut last: Option<&Path> = None;
        for path in rows.iter().filter_map(|row| files.path(*row)) {
            // A file whose vectors lie one behind the other is told once.
            if last != Some(path) {
                out.write_all(path.as_os_str().as_bytes())?;
                out.write_all(end)?;
            }
            last = Some(path);
        }
        return Ok(());
    }
    let metadata = table.metadata()?;
    let of = |row: usize| metadata.get(row).and_then(Option::as_ref);
    let path =
        |row: usize| files.path(row).map_or_else(String::new, |path| path.to_string_lossy().into_owned());
    if common.json {
        return rows.iter().try_for_each(|row| {
            Ok(output::line(&json!({"path": path(*row), "row": row, "metadata": of(*row)}))?)
        });
    }
    let line = |row: &usize| {
        vec![
            chunk::place(&path(*row), of(*row).and_then(Chunk::of)),
            of(*row).map_or_else(String::new, Value::to_string),
        ]
    };
    output::table(&["FILE", "METADATA"], &rows.iter().map(line).collect::<Vec<_>>())?;
    Ok(())
}

// In the order of a field; rows without it last.
fn sort(rows: &mut [usize], table: &Table<'_>, text: &str, descending: bool) -> Result<(), Failure> {
    // A field is parsed as the condition that it is there.
    let condition = format!("{text} is not null");
    let filter = table::filter(table, &condition)?;
    let mut fields = filter.fields();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(Failure::new(format!("`{text}`: --order-by takes one field")));
    };
    let mut wanted = vec![0; table.rows()];
    rows.iter().for_each(|row| wanted[*row] = 1);
    let keys = keys(&table.values(field, &wanted)?);
    rows.sort_by(|one, other| match (&keys[*one], &keys[*other]) {
        (Some(a), Some(b)) if descending => compare(b, a),
        (Some(a), Some(b)) => compare(a, b),
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (None, None) => Ordering::Equal,
    });
    Ok(())
}

fn keys(values: &Values<'_>) -> Vec<Option<Scalar>> {
    let whole = |value: &i64| (*value != i64::MIN).then_some(Scalar::Int(*value));
    match values {
        Values::Bool(values) => {
            values.iter().map(|value| (*value >= 0).then_some(Scalar::Bool(*value > 0))).collect()
        }
        Values::Int(values) | Values::Time(values) => values.iter().map(whole).collect(),
        Values::Float(values) => {
            values.iter().map(|value| (!value.is_nan()).then_some(Scalar::Float(*value))).collect()
        }
        Values::Text(bytes, width) => bytes
            .chunks_exact((*width).max(1))
            .map(|entry| {
                let text = std::str::from_utf8(entry).ok()?;
                Some(Scalar::Text(text.trim_end_matches('\0').to_owned()))
            })
            .collect(),
        Values::Any(values) => values.clone(),
    }
}

// Numbers before texts before all else.
fn compare(one: &Scalar, other: &Scalar) -> Ordering {
    fn rank(value: &Scalar) -> (u8, f64, &str) {
        match value {
            Scalar::Bool(value) => (0, f64::from(u8::from(*value)), ""),
            Scalar::Int(value) | Scalar::Time(value) => (1, *value as f64, ""),
            Scalar::Float(value) => (1, *value, ""),
            Scalar::Text(text) => (2, 0.0, text),
            Scalar::Other => (3, 0.0, ""),
        }
    }
    let whole = match (one, other) {
        (Scalar::Int(a) | Scalar::Time(a), Scalar::Int(b) | Scalar::Time(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    let ((a, x, s), (b, y, t)) = (rank(one), rank(other));
    a.cmp(&b).then(x.total_cmp(&y)).then(whole).then(s.cmp(t))
}
