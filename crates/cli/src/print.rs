//! Prints data on stdout: JSON where asked for, else tables and lines for people.

use std::io::Write;

use serde_json::Value;

/// How data is printed.
#[derive(Clone, Copy)]
pub(crate) struct Printer {
    pub(crate) json: bool,
}

impl Printer {
    /// The value as JSON, or what `lines` makes of it.
    pub(crate) fn show(self, value: &Value, lines: impl FnOnce(&Value) -> String) {
        let text = if self.json { value.to_string() } else { lines(value) };
        if !text.is_empty() {
            print(text.trim_end());
        }
    }
}

/// Lines on stdout. A reader that has seen enough (`| head`) is no failure of ours.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A cell of a table as a person reads it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A table of the rows' fields, aligned.
pub(crate) fn table(rows: &[Value], columns: &[&str]) -> String {
    let mut lines = vec![columns.iter().map(|name| (*name).replace('_', " ")).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|name| cell(&row[*name])).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_shows_what_is_missing() {
        let rows = [serde_json::json!({"id": "pump-7", "n": 1}), serde_json::json!({"id": "a"})];
        assert_eq!(table(&rows, &["id", "n"]), "id      n\npump-7  1\na       -\n");
    }
}
