//! Where the values go: JSON, one object a line, or text for people.

use std::io::{self, Write};

use serde_json::Value;

/// The output of a dump.
pub struct Report<W> {
    out: W,
    json: bool,
}

impl<W: Write> Report<W> {
    /// Writes to `out`, JSON if asked.
    pub fn new(out: W, json: bool) -> Self {
        Self { out, json }
    }

    /// Writes out what is buffered.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// One structure: in text a title and a line a member.
    pub fn section(&mut self, title: &str, value: &Value) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{value}");
        }
        writeln!(self.out, "{title}")?;
        let Value::Object(members) = value else { return writeln!(self.out, "  {}", text(value)) };
        let width = members.keys().map(String::len).max().unwrap_or(0);
        for (name, member) in members {
            writeln!(self.out, "  {name:width$}  {}", text(member))?;
        }
        Ok(())
    }

    /// One of many: in text one line, indented by `depth`.
    pub fn line(&mut self, depth: usize, value: &Value) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{value}");
        }
        writeln!(self.out, "{:indent$}{}", "", text(value), indent = 2 * depth)
    }
}

// `name=value name=value` of an object, `a, b` of an array, the bare text of a string.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let parts = members.iter().map(|(name, member)| match member {
                Value::Object(_) => format!("{name}({})", text(member)),
                Value::Array(_) => format!("{name}=[{}]", text(member)),
                _ => format!("{name}={}", text(member)),
            });
            parts.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(json: bool) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, json);
        report.section("thing", &json!({"name": "a b", "number": 3, "list": [1, 2]})).unwrap();
        report.line(1, &json!({"inner": {"x": null, "y": true}})).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn for_people() {
        assert_eq!(
            printed(false),
            "thing\n  name    a b\n  number  3\n  list    1, 2\n  inner(x=- y=true)\n"
        );
    }

    #[test]
    fn for_programs() {
        let values: Vec<Value> =
            printed(true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(values[0]["list"], json!([1, 2]));
        assert_eq!(values[1]["inner"]["x"], Value::Null);
    }
}
