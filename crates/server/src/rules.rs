//! Reads rule files and compiles them to one table.

use std::path::PathBuf;

use policy::{Source, Table};

use crate::error::ServerError;

/// Compiles all files together: the whole set is valid or none of it is used.
///
/// # Errors
/// Every mistake as `file:line:column: what`, or the file that can't be read.
pub fn compile_rules(files: &[PathBuf], epoch: u64) -> Result<Table, ServerError> {
    let mut texts = Vec::new();
    for file in files {
        texts.push((file.display().to_string(), fs_err::read_to_string(file)?));
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(file, text)| Source { file, text }).collect();
    Table::compile(&sources, epoch).map_err(|errors| {
        let line = |error: &policy::PolicyError| match &error.hint {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        ServerError::Policy(errors.iter().map(line).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_with_file_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.acl");
        fs_err::write(&file, "pattern read devices/%u/#\npattern publish devices/%u/x\n").unwrap();
        let Err(ServerError::Policy(lines)) = compile_rules(std::slice::from_ref(&file), 1) else { panic!() };
        assert!(lines[0].starts_with(&format!("{}:2:", file.display())), "{lines:?}");
    }

    #[test]
    fn the_shipped_layouts_compile_together() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = [("d.acl", policy::LAYOUT_DEVICES), ("a.acl", policy::LAYOUT_ASSETS)]
            .map(|(name, text)| {
                let file = folder.path().join(name);
                fs_err::write(&file, text).unwrap();
                file
            })
            .to_vec();
        assert!(compile_rules(&files, 1).unwrap().rules() >= 9);
    }
}
