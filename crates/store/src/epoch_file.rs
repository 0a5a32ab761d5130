use std::io::Write;
use std::path::{Path, PathBuf};

use types::Epoch;

use crate::{EPOCH_FILE, StoreError};

/// The highest epoch ever reached, in a file beside the database, so that a database put back
/// from a backup is noticed.
#[derive(Clone, Debug)]
pub(crate) struct EpochFile {
    path: PathBuf,
}

impl EpochFile {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(EPOCH_FILE) }
    }

    /// The epoch in the file; `None` when there is no file.
    pub(crate) fn read(&self) -> Result<Option<Epoch>, StoreError> {
        match fs_err::read_to_string(&self.path) {
            Ok(text) => match parse(&text) {
                Some(epoch) => Ok(Some(epoch)),
                None => {
                    Err(self.wrong(format!("\"{}\" is not two numbers", types::Clipped(text.trim_end()))))
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Why a database that has come so far is not believed without its file.
    pub(crate) fn gone(&self, database: Epoch) -> StoreError {
        self.wrong(format!("it is gone, and the database has reached epoch {database}"))
    }

    fn wrong(&self, detail: String) -> StoreError {
        StoreError::EpochFile { path: self.path.display().to_string(), detail }
    }

    /// Replaces the file in one step and waits until the new one is on the disk.
    pub(crate) fn write(&self, epoch: Epoch) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = fs_err::File::create(&fresh)?;
        file.write_all(format!("{} {}\n", epoch.incarnation, epoch.counter).as_bytes())?;
        file.sync_all()?;
        fs_err::rename(&fresh, &self.path)?;
        match self.path.parent() {
            Some(dir) => fs_err::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Two decimal numbers, the incarnation and the counter.
fn parse(text: &str) -> Option<Epoch> {
    let (incarnation, counter) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Epoch { incarnation: incarnation.parse().ok()?, counter: counter.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_keeps_the_epoch_that_was_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = EpochFile::new(dir.path());
        assert_eq!(file.read(), Ok(None));
        for epoch in [Epoch::default(), Epoch { incarnation: 3, counter: u64::MAX }] {
            file.write(epoch).unwrap();
            assert_eq!(file.read(), Ok(Some(epoch)));
        }
        let names: Vec<_> = fs_err::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["epoch"]);
    }

    #[test]
    fn a_file_that_says_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = EpochFile::new(dir.path());
        for text in ["", "\n", "1\n", "1 2", "1 2 3\n", "-1 2\n", "1 x\n", "4294967296 1\n", "1  2\n"] {
            fs_err::write(dir.path().join(EPOCH_FILE), text).unwrap();
            match file.read() {
                Err(StoreError::EpochFile { detail, .. }) => {
                    assert!(detail.ends_with("is not two numbers"), "{detail}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let file = EpochFile::new(&dir.path().join("gone"));
        assert!(file.write(Epoch::default()).is_err());
    }
}
