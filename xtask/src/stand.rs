//! A whole installation in a temporary folder, for the outside judges: initialised, serving, with clients.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::run::{Outcome, binary, captured};

/// How long the server may take until it says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running installation; it stops when this is dropped.
pub(crate) struct Stand {
    folder: tempfile::TempDir,
    server: Child,
    addresses: Value,
}

impl Stand {
    /// Initialises and serves on free ports of the loopback address.
    pub(crate) fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let dir = folder.path().join("data");
        let mut init = Command::new(binary("bailiwick"));
        init.arg("--dir").arg(&dir).args(["init", "--host", "localhost", "--host", "127.0.0.1"]);
        for listener in ["--mqtt", "--devices", "--admin", "--plain"] {
            init.args([listener, "127.0.0.1:0"]);
        }
        init.env("BAILIWICK_ROOT_PASSPHRASE", "a passphrase for the judges only").stdin(Stdio::null());
        captured(init)?;
        let mut server = Command::new(binary("bailiwick"))
            .arg("--dir")
            .arg(&dir)
            .args(["--json", "serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log_file(&folder.path().join("serve.log"))?))
            .spawn()
            .map_err(|error| format!("cannot start bailiwick serve: {error}"))?;
        let out = server.stdout.take().ok_or("serve has no stdout")?;
        let (ready, line) = mpsc::channel();
        std::thread::spawn(move || {
            for text in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = ready.send(text);
            }
        });
        let mut stand = Self { folder, server, addresses: Value::Null };
        let first = line
            .recv_timeout(READY_WITHIN)
            .map_err(|_| format!("serve did not get ready: {}", stand.log()))?;
        stand.addresses =
            serde_json::from_str(&first).map_err(|error| format!("serve said \"{first}\": {error}"))?;
        Ok(stand)
    }

    /// The folder that goes with the stand.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `bailiwick ARGS` against this installation; what it printed on stdout.
    pub(crate) fn cli(&self, args: &[&str]) -> Outcome<String> {
        captured(self.command(args))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("bailiwick"));
        command
            .arg("--dir")
            .arg(self.path("data"))
            .args(args)
            .stdin(Stdio::null())
            .current_dir(self.folder());
        command
    }

    /// The port of a listener: `mqtt`, `devices`, `admin`, `plain`.
    pub(crate) fn port(&self, listener: &str) -> Outcome<String> {
        let address = self.addresses[listener].as_str().unwrap_or_default();
        match address.rsplit_once(':') {
            Some((_, port)) => Ok(port.to_owned()),
            None => Err(format!("serve named no address for {listener}: {}", self.addresses)),
        }
    }

    /// What the server wrote so far.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.path("serve.log")) {
            let _ = std::io::Read::read_to_string(&mut file, &mut text);
        }
        text
    }
}

fn log_file(path: &Path) -> Outcome<std::fs::File> {
    std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
