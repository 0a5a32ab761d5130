//! One writer for a data folder: the lock that `serve` holds, and that a lone command takes.

use std::fs::{File, OpenOptions, TryLockError};

use crate::error::ServerError;
use crate::layout::Layout;

/// Held as long as this process may write in the data folder; the system lets go of it when the
/// process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataLock(#[expect(dead_code, reason = "kept open for the lock that goes with it")] File);

impl DataLock {
    /// Takes the lock, or answers `None` when another process holds it.
    ///
    /// # Errors
    /// The file can't be opened, or the file system knows no locks.
    pub(crate) fn take(layout: &Layout) -> Result<Option<Self>, ServerError> {
        let path = layout.lock();
        let failed =
            |error: std::io::Error| ServerError::File { path: path.clone(), error: error.to_string() };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_that_another_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let first = DataLock::take(&layout).unwrap();
        assert!(first.is_some());
        assert!(DataLock::take(&layout).unwrap().is_none());
        drop(first);
        assert!(DataLock::take(&layout).unwrap().is_some());
    }
}
