//! Holds ATTACKS.md against the tree: every test that it names stands in the file that it names.
//! In: the page, the Rust files. Out: a sentence for each row that promises more than there is.
//! Invariant: a row above "Not yet" names at least one test, and a row below it gives a reason.

use std::collections::BTreeSet;

use crate::run::root;
use crate::source::Source;

const PAGE: &str = "ATTACKS.md";
/// The demo carries attacks out too, and fails when one succeeds; `cargo xtask test` runs it.
const DEMO: &str = "crates/cli/src/demo";
/// What stands for a test where the compiler itself is the one who refuses.
const COMPILE_FAIL: &str = "compile_fail";

/// Every breach, a sentence each.
pub(crate) fn breaches(files: &[Source]) -> Vec<String> {
    let mut page = String::new();
    let opened = std::fs::File::open(root().join(PAGE))
        .and_then(|mut file| std::io::Read::read_to_string(&mut file, &mut page));
    match opened {
        Ok(_) => check(&page, files),
        Err(error) => vec![format!("{PAGE}: {error}")],
    }
}

fn check(page: &str, files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let (mut not_yet, mut in_table, mut rows) = (false, false, 0);
    for (line, text) in (1..).zip(page.lines()) {
        if let Some(heading) = text.strip_prefix("## ") {
            not_yet = heading.to_ascii_lowercase().starts_with("not yet");
        }
        if !text.starts_with('|') {
            in_table = false;
            continue;
        }
        // The first line of a table is its head, the second the rule below it.
        if !std::mem::replace(&mut in_table, true) || text.starts_with("|-") {
            continue;
        }
        rows += 1;
        let cells: Vec<&str> = text.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        let (attack, last) =
            (cells.first().copied().unwrap_or_default(), cells.last().copied().unwrap_or_default());
        if cells.len() < 2 || attack.is_empty() || last.is_empty() {
            found.push(format!("{PAGE}:{line}: a row without an attack, or without what answers it"));
        } else if !not_yet {
            found.extend(row(last, files).into_iter().map(|wrong| format!("{PAGE}:{line}: {wrong}")));
        }
    }
    if rows == 0 {
        found.push(format!("{PAGE}: no table of attacks"));
    }
    found
}

/// What is wrong with the last cell of a row: `file.rs: test, test`, `crate::path::test` or `demo: row`.
fn row(cell: &str, files: &[Source]) -> Vec<String> {
    let mut references = cell.split('`').skip(1).step_by(2).peekable();
    if references.peek().is_none() {
        return vec!["the row names no test; move it to \"Not yet\", with the reason".to_owned()];
    }
    references.flat_map(|reference| missing(reference, files)).collect()
}

fn missing(reference: &str, files: &[Source]) -> Vec<String> {
    if let Some(row) = reference.strip_prefix("demo: ") {
        let literal = format!("\"{}\"", row.replace('"', "\\\""));
        let mut demo = files.iter().filter(|file| file.path.starts_with(DEMO));
        return match demo.any(|file| file.text.contains(&literal)) {
            true => Vec::new(),
            false => vec![format!("the demo has no row \"{row}\"")],
        };
    }
    if let Some((path, names)) = reference.split_once(": ") {
        let Some(file) = files.iter().find(|file| file.path.to_string_lossy() == path) else {
            return vec![format!("there is no file {path}")];
        };
        let known = tests_of(&file.text);
        let gone = names.split(", ").filter(|name| !known.contains(name));
        return gone.map(|name| format!("{path} has no test {name}{}", elsewhere(name, files))).collect();
    }
    let (Some((owner, _)), Some((_, name))) = (reference.split_once("::"), reference.rsplit_once("::"))
    else {
        return vec![format!(
            "\"{reference}\" is neither `file.rs: test` nor `crate::path::test` nor `demo: row`"
        )];
    };
    let folder = format!("crates/{owner}/");
    let mut own = files.iter().filter(|file| file.path.to_string_lossy().starts_with(&folder));
    match own.any(|file| tests_of(&file.text).contains(name)) {
        true => Vec::new(),
        false => vec![format!("crate {owner} has no test {name}{}", elsewhere(name, files))],
    }
}

/// Where a test of this name stands, for whoever has moved it.
fn elsewhere(name: &str, files: &[Source]) -> String {
    let place = files.iter().find(|file| tests_of(&file.text).contains(name));
    place.map_or_else(String::new, |file| format!("; there is one in {}", file.path.display()))
}

/// The names of the functions that stand under a test attribute.
fn tests_of(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut attribute = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            attribute = true;
        } else if line.starts_with("///") && line.contains(COMPILE_FAIL) {
            names.insert(COMPILE_FAIL);
        } else if attribute
            && !line.starts_with("#[")
            && let Some((_, rest)) = line.split_once("fn ")
        {
            names.extend(rest.split(['(', '<']).next());
            attribute = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Vec<Source> {
        let file = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        vec![
            file("crates/a/tests/b.rs", "#[test]\nfn it_holds() {}\n\nfn no_test() {}\n"),
            file(
                "crates/a/src/c.rs",
                "    #[tokio::test(flavor = \"x\")]\n    #[expect(y)]\n    async fn it_waits() {}\n",
            ),
            file("crates/cli/src/demo/attacks.rs", "show(\"as \\\"admin\\\"\");"),
            file("crates/d/src/e.rs", "/// ```compile_fail,E0451\npub struct Proof;\n"),
        ]
    }

    fn page(rows: &str) -> String {
        format!("# Attacks\n\n| attack | why | test |\n|---|---|---|\n{rows}\n")
    }

    #[test]
    fn rows_that_name_what_is_there_are_in_order() {
        for cell in [
            "`crates/a/tests/b.rs: it_holds`",
            "`crates/a/src/c.rs: it_waits` `crates/a/tests/b.rs: it_holds`",
            "`a::c::tests::it_waits`, `a::it_holds`",
            "`crates/d/src/e.rs: compile_fail`",
            "`demo: as \"admin\"`",
        ] {
            assert_eq!(check(&page(&format!("| x | y | {cell} |")), &tree()), Vec::<String>::new(), "{cell}");
        }
    }

    #[test]
    fn each_promise_that_is_not_kept_is_named_with_its_line() {
        for (row, breach) in [
            (
                "| x | y | `crates/a/tests/b.rs: it_held` |",
                "ATTACKS.md:5: crates/a/tests/b.rs has no test it_held",
            ),
            (
                "| x | y | `crates/a/tests/b.rs: it_holds, no_test` |",
                "ATTACKS.md:5: crates/a/tests/b.rs has no test no_test",
            ),
            (
                "| x | y | `crates/a/tests/b.rs: it_waits` |",
                "ATTACKS.md:5: crates/a/tests/b.rs has no test it_waits; there is one in crates/a/src/c.rs",
            ),
            (
                "| x | y | `crates/a/tests/z.rs: it_holds` |",
                "ATTACKS.md:5: there is no file crates/a/tests/z.rs",
            ),
            (
                "| x | y | `d::it_holds` |",
                "ATTACKS.md:5: crate d has no test it_holds; there is one in crates/a/tests/b.rs",
            ),
            (
                "| x | y | `crates/a/tests/b.rs: compile_fail` |",
                "ATTACKS.md:5: crates/a/tests/b.rs has no test compile_fail; there is one in crates/d/src/e.rs",
            ),
            (
                "| x | y | `it_holds` |",
                "ATTACKS.md:5: \"it_holds\" is neither `file.rs: test` nor `crate::path::test` nor `demo: row`",
            ),
            (
                "| x | y | it_holds |",
                "ATTACKS.md:5: the row names no test; move it to \"Not yet\", with the reason",
            ),
            ("| x | y | |", "ATTACKS.md:5: a row without an attack, or without what answers it"),
        ] {
            assert_eq!(check(&page(row), &tree()), [breach]);
        }
        assert_eq!(check("# Attacks\n", &tree()), ["ATTACKS.md: no table of attacks"]);
    }

    #[test]
    fn below_not_yet_a_reason_is_enough_and_none_is_not() {
        let below = |row: &str| {
            format!(
                "{}\n## Not yet\n\n| attack | reason |\n|---|---|\n{row}\n",
                page("| x | y | `a::it_holds` |")
            )
        };
        assert_eq!(check(&below("| z | no MQTT 5 |"), &tree()), Vec::<String>::new());
        assert_eq!(
            check(&below("| z | |"), &tree()),
            ["ATTACKS.md:11: a row without an attack, or without what answers it"]
        );
    }

    #[test]
    fn a_section_after_not_yet_is_held_again() {
        let text = format!("## Not yet\n\n## Again\n\n{}", page("| x | y | later |"));
        assert_eq!(check(&text, &tree()).len(), 1);
    }
}
