//! What was shown, a row each, and whether it held.

/// The rows of the demonstration.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    group: &'static str,
    what: String,
    outcome: Result<String, String>,
}

impl Table {
    /// Puts a row down and says it at once. `Ok` holds the evidence, such as the logged reason.
    pub(crate) fn show(
        &mut self,
        group: &'static str,
        what: impl Into<String>,
        outcome: Result<String, String>,
    ) {
        let what = what.into();
        match &outcome {
            Ok(evidence) => println!("  {what}: {evidence}"),
            Err(error) => println!("  {what}: DID NOT HOLD: {error}"),
        }
        self.rows.push(Row { group, what, outcome });
    }

    /// How many rows did not hold.
    pub(crate) fn failed(&self) -> usize {
        self.rows.iter().filter(|row| row.outcome.is_err()).count()
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        let mut groups: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group) {
                groups.push(row.group);
            }
        }
        let ordered = groups.iter().flat_map(|group| self.rows.iter().filter(move |row| row.group == *group));
        let mut current = "";
        for row in ordered {
            if row.group != current {
                current = row.group;
                text.push_str(&format!("\n{current}\n"));
            }
            let (mark, evidence) = match &row.outcome {
                Ok(evidence) => ("ok  ", clipped(evidence)),
                Err(error) => ("FAIL", error.clone()),
            };
            text.push_str(&format!("  {mark}  {:<width$}  {evidence}\n", row.what));
        }
        text.push_str(&format!("\n{} shown, {} did not hold\n", self.rows.len(), self.failed()));
        text
    }
}

/// The evidence as it fits beside its row; the whole of it was said when it was found.
fn clipped(evidence: &str) -> String {
    const SHOWN: usize = 72;
    let mut text: String = evidence.chars().take(SHOWN).collect();
    if evidence.chars().count() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_did_not_hold_is_counted_and_marked() {
        let mut table = Table::default();
        table.show("spoofing", "no certificate", Ok("tls.no_certificate".into()));
        table.show("spoofing", "a foreign CA", Err("it connected".into()));
        assert_eq!(table.failed(), 1);
        let text = table.render();
        assert!(text.contains("FAIL  a foreign CA") && text.contains("2 shown, 1 did not hold"), "{text}");
    }
}
