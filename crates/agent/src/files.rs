use std::io::{self, ErrorKind, Write};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;

/// Writes `content` to `path` so that after a loss of power there is the old file or the new one,
/// whole: another name, fsync, rename, fsync of the folder.
pub(crate) fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    remove(partial)?;
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(mode).open(partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs_err::rename(partial, path)?;
    sync_folder_of(path)
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; that there is none is well.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Overwrites a secret file before removing it. On flash the old block may live on until it is
/// reused; the token in it is dead by then.
pub(crate) fn erase(path: &Path) -> io::Result<()> {
    match fs_err::OpenOptions::new().write(true).open(path) {
        Ok(mut file) => {
            let len = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(64 * 1024);
            file.write_all(&vec![0; len])?;
            file.sync_all()?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    remove(path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs_err::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_a_left_over_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs_err::write(dir.path().join("a.partial"), "half").unwrap();
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn erasing_leaves_nothing_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs_err::write(&path, "secret").unwrap();
        erase(&path).unwrap();
        erase(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
