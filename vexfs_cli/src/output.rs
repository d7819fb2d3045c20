//! Tables for people, JSON lines for programs.

use std::io::{self, Write};

use serde_json::Value;

/// Prints one JSON object on a line.
pub(crate) fn line(value: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value}")
}

/// Prints text as it is.
pub(crate) fn text(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

/// Prints rows under a head, columns aligned; numbers to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    io::stdout().write_all(render(head, rows).as_bytes())
}

fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|name| name.len())).max().unwrap_or(0)
    };
    let is_number = |column: usize| {
        !rows.is_empty()
            && rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.parse::<f64>().is_ok()))
    };
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let (width, gap) = (width(column), if column == 0 { "" } else { "  " });
            let cell = if is_number(column) { format!("{cell:>width$}") } else { format!("{cell:width$}") };
            line.push_str(gap);
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Prints the members of an object, one a line.
pub(crate) fn members(value: &Value) -> io::Result<()> {
    let Value::Object(members) = value else { return line(value) };
    let width = members.keys().map(String::len).max().unwrap_or(0);
    let mut out = io::stdout().lock();
    for (name, member) in members {
        match member {
            Value::String(text) => writeln!(out, "{name:width$}  {text}")?,
            other => writeln!(out, "{name:width$}  {other}")?,
        }
    }
    Ok(())
}

/// `bytes` for a person: `512 B`, `4.0 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "12".to_owned()], vec!["long".to_owned(), "3".to_owned()]];
        assert_eq!(render(&["NAME", "N"], &rows), "NAME   N\na     12\nlong   3\n");
    }
}
