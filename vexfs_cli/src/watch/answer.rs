//! What a command wrote, as the vectors of each file.

use serde_json::{Deserializer, Value};
use vexfs_search::Schema;
use vexfs_search::npy::{self, Header};

use crate::arguments::Format;
use crate::vector::{self, Given};

/// The vectors 0, 1, 2 ... of each file; none for one that has to do without.
pub(super) fn parse(
    bytes: &[u8],
    format: Format,
    files: usize,
    schema: &Schema,
) -> Result<Vec<Vec<Given>>, String> {
    let answers = match format {
        Format::Npy => rows(bytes)?,
        Format::Raw => raw(bytes, files, schema)?,
        Format::Json => values(bytes, files)?,
        Format::Auto if bytes.starts_with(npy::MAGIC) => rows(bytes)?,
        Format::Auto => values(bytes, files)?,
    };
    if answers.len() != files {
        return Err(format!("the command gave {} vectors for {files} files", answers.len()));
    }
    Ok(answers)
}

fn rows(bytes: &[u8]) -> Result<Vec<Vec<Given>>, String> {
    let wrong = |why: String| format!("the command's output: {why}");
    let header = Header::parse(bytes).map_err(wrong)?;
    let (count, columns) = header.matrix().map_err(wrong)?;
    let width = vector::width(&header.descr).map_err(wrong)?;
    let cut = || wrong("the npy matrix is cut off".into());
    let len = usize::try_from(columns).ok().and_then(|columns| columns.checked_mul(width)).ok_or_else(cut)?;
    let end = usize::try_from(count).ok().and_then(|count| count.checked_mul(len)?.checked_add(header.data));
    let data = end.and_then(|end| bytes.get(header.data..end)).ok_or_else(cut)?;
    if len == 0 {
        return Err(wrong("an npy matrix without columns".into()));
    }
    let row = |row: &[u8]| vec![Given::Array { descr: header.descr.clone(), bytes: row.to_vec() }];
    Ok(data.chunks_exact(len).map(row).collect())
}

fn raw(bytes: &[u8], files: usize, schema: &Schema) -> Result<Vec<Vec<Given>>, String> {
    let len = match schema.vector_len() {
        0 => bytes.len() / files.max(1),
        len => len,
    };
    if len == 0 || bytes.len() != len * files {
        let got = bytes.len();
        return Err(format!("the command gave {got} bytes for {files} files; a vector has {len}"));
    }
    Ok(bytes.chunks_exact(len).map(|vector| vec![Given::Raw(vector.to_vec())]).collect())
}

fn values(bytes: &[u8], files: usize) -> Result<Vec<Vec<Given>>, String> {
    let values: Result<Vec<Value>, _> = Deserializer::from_slice(bytes).into_iter().collect();
    let mut values =
        values.map_err(|error| format!("the command's output is neither npy nor JSON: {error}"))?;
    // All in one array, as json.dumps(matrix.tolist()) gives it.
    if let ([Value::Array(all)], true) = (&mut values[..], files > 1)
        && all.iter().all(|value| matches!(value, Value::Array(_) | Value::Null))
    {
        values = std::mem::take(all);
    }
    values.iter().enumerate().map(|(index, value)| one(value, index)).collect()
}

// The vectors of a file.
fn one(value: &Value, index: usize) -> Result<Vec<Given>, String> {
    let bad =
        || format!("the command's answer {index} is no array of numbers, array of such arrays, or null");
    let numbers = |value: &Value| {
        let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
        numbers.filter(|numbers| !numbers.is_empty()).map(Given::Numbers)
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) if all.first().is_some_and(Value::is_array) => {
            all.iter().map(|one| numbers(one).ok_or_else(bad)).collect()
        }
        // A file without a chunk of text.
        Value::Array(all) if all.is_empty() => Ok(Vec::new()),
        other => Ok(vec![numbers(other).ok_or_else(bad)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexfs_search::{Element, Metric};

    fn schema(dimensions: usize) -> Schema {
        let (element, metric) = (Element::F32, Metric::Cosine);
        let (model, all) = (String::new(), Value::Null);
        Schema { dimensions, element, metric, model, rows: 0, live: 0, generation: 0, all }
    }

    fn numbers(values: &[f64]) -> Given {
        Given::Numbers(values.to_vec())
    }

    fn auto(text: &str, files: usize) -> Result<Vec<Vec<Given>>, String> {
        parse(text.as_bytes(), Format::Auto, files, &schema(2))
    }

    #[test]
    fn json_in_its_forms() {
        let (a, b) = (numbers(&[1.0, 2.0]), numbers(&[3.0, 4.0]));
        let both = Ok(vec![vec![a.clone()], vec![b.clone()]]);
        assert_eq!(auto("[1,2]\n[3,4]\n", 2), both);
        assert_eq!(auto("[[1, 2], [3, 4]]", 2), both, "all in one array");
        assert_eq!(auto("[[1, 2], [3, 4]]", 1), Ok(vec![vec![a.clone(), b]]), "two vectors of one file");
        assert_eq!(auto("null [1,2]", 2), Ok(vec![vec![], vec![a.clone()]]));
        assert_eq!(auto("[null, [1, 2]]", 2), Ok(vec![vec![], vec![a]]));
        assert_eq!(auto("[]", 1), Ok(vec![vec![]]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(auto("[1,2]", 2).unwrap_err(), "the command gave 1 vectors for 2 files");
        assert_eq!(auto("", 2).unwrap_err(), "the command gave 0 vectors for 2 files");
        assert!(auto("[1,2", 1).unwrap_err().contains("neither npy nor JSON"));
        assert!(auto("loading model\n[1,2]", 1).unwrap_err().contains("neither npy nor JSON"));
        assert!(auto("[1,\"a\"]", 1).unwrap_err().contains("answer 0"));
        assert!(auto("{\"vector\": [1]}", 1).unwrap_err().contains("answer 0"));
    }

    #[test]
    fn matrices_and_raw_bytes() {
        let bytes: Vec<u8> = [1_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let matrix = [Header::render("<f4", &[2, 2]), bytes.clone()].concat();
        let rows = parse(&matrix, Format::Auto, 2, &schema(2)).unwrap();
        assert_eq!(rows[1][0].encode(Element::F32).unwrap(), &bytes[8..]);
        assert!(
            parse(&matrix[..matrix.len() - 1], Format::Auto, 2, &schema(2)).unwrap_err().contains("cut off")
        );
        assert_eq!(
            parse(&matrix, Format::Npy, 3, &schema(2)).unwrap_err(),
            "the command gave 2 vectors for 3 files"
        );
        let raw = parse(&bytes, Format::Raw, 2, &schema(2)).unwrap();
        assert_eq!(raw[0], [Given::Raw(bytes[..8].to_vec())]);
        assert_eq!(
            parse(&bytes, Format::Raw, 2, &schema(0)).unwrap(),
            raw,
            "a collection without a dimension yet"
        );
        assert!(parse(&bytes, Format::Raw, 3, &schema(2)).unwrap_err().contains("16 bytes for 3 files"));
    }
}
