//! An installation in a folder of its own, commands on it, and a server that serves it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use server::Layout;
use signer::{FileKey, SystemEntropy};
use tempfile::TempDir;
use tls::{Connector, Identity};
use x509::Certificate;

use crate::wire::Wire;

/// The longest that anything may take before its test fails.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
/// Unlocks the root key of every installation here.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";
/// Listeners on free ports of this machine only.
pub(crate) const FREE_PORTS: [&str; 8] =
    ["--mqtt", "127.0.0.1:0", "--devices", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--plain", "127.0.0.1:0"];

/// The real binary, with nothing of this shell's environment that would change what it does.
pub(crate) fn bailiwick() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    command
        .env_remove("BAILIWICK_DIR")
        .env_remove("CREDENTIALS_DIRECTORY")
        .env("BAILIWICK_ROOT_PASSPHRASE", PASSPHRASE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command came to.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Only exit 0 will do.
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// stdout as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The command has to have failed with this code, saying each of these on stderr, no data, and
    /// nothing of a panic.
    pub(crate) fn refused(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        for words in said {
            assert!(self.err.contains(words), "no \"{words}\" in {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// Runs a command to its end, which has to come in time.
pub(crate) fn ran(command: &mut Command) -> Ran {
    let child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let Ok(output) = end.recv_timeout(WITHIN) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} did not end in {WITHIN:?}");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// An installation.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) dir: PathBuf,
}

/// One ceremony for all tests of this process; each test works on its own copy.
fn template() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let mut init = bailiwick();
        init.arg("--dir").arg(folder.path().join("fleet")).args(["init", "--host", "localhost"]);
        ran(init.args(FREE_PORTS)).done();
        folder
    })
    .path()
}

/// Copies a folder with everything in it and every mode.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    fs_err::set_permissions(to, fs_err::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs_err::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Every path below a folder with its mode and its bytes: two that are equal are untouched.
pub(crate) fn picture(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let bytes = if metadata.is_file() { fs_err::read(entry.path()).unwrap() } else { Vec::new() };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), metadata.permissions().mode() & 0o7777, bytes));
        }
    }
    found.sort();
    found
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("fleet");
        copy_folder(&template().join("fleet"), &dir);
        Self { folder, dir }
    }

    /// A path beside the data folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.dir)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bailiwick();
        command.current_dir(self.folder.path()).arg("--dir").arg(&self.dir).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// A command that has to succeed; its data as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.run(&[&["--json"], args].concat()).done().json()
    }

    /// Registers a device and makes its files here; the folder that they are in.
    pub(crate) fn device(&self, name: &str) -> PathBuf {
        self.made(&["device", "add", name])
    }

    pub(crate) fn service(&self, name: &str) -> PathBuf {
        self.made(&["service", "add", name])
    }

    fn made(&self, args: &[&str]) -> PathBuf {
        let out = self.beside("files");
        self.run(&[args, &["--out", out.to_str().unwrap()]].concat()).done();
        out
    }

    /// A bundle for a device.
    pub(crate) fn bundle(&self, device: &str) -> String {
        self.json(&["token", "create", device])["bundle"].as_str().unwrap().to_owned()
    }

    /// Registers a device and makes a bundle for it while a server runs.
    pub(crate) fn bundle_for(&self, device: &str, served: &Served) -> String {
        self.run(&["device", "add", device]).done();
        let bundle = self.bundle(device);
        assert!(bundle.contains(&format!("@localhost:{}#", served.devices.port())), "{bundle}");
        bundle
    }

    pub(crate) fn root(&self) -> Certificate {
        Certificate::parse_pem(&fs_err::read_to_string(self.layout().ca("root")).unwrap()).unwrap()
    }

    /// A client that believes our root, and shows the identity of `NAME.crt` and `NAME.key`.
    pub(crate) fn connector(&self, files: &Path, name: &str) -> Connector {
        let chain = fs_err::read_to_string(files.join(format!("{name}.crt"))).unwrap();
        let key = FileKey::load(&files.join(format!("{name}.key")), None).unwrap();
        let identity =
            Identity::new(Certificate::parse_pem_chain(&chain).unwrap(), &key.pkcs8_der()).unwrap();
        self.connector_with(Some(identity))
    }

    pub(crate) fn connector_with(&self, identity: Option<Identity>) -> Connector {
        Connector::new(&[self.root()], identity, Arc::new(agent::SystemClock), Vec::new()).unwrap()
    }

    /// Serves, and waits until the addresses are printed.
    pub(crate) fn serve(&self) -> Served {
        self.try_serve().unwrap_or_else(|ran| panic!("{ran:?}"))
    }

    /// Serves, or answers how `serve` ended.
    pub(crate) fn try_serve(&self) -> Result<Served, Ran> {
        let mut child = self.command(&["--json", "serve"]).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, kept) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.push(line);
            }
            kept.end();
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (first, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).map(|_| line);
            let _ = first.send(read);
            // Whatever else is printed must not block the server.
            let _ = stdout.read_to_end(&mut Vec::new());
        });
        let line = line.recv_timeout(WITHIN).unwrap().unwrap();
        if line.is_empty() {
            log.wait_end();
            let code = child.wait().unwrap().code().unwrap_or(-1);
            return Err(Ran { code, out: line, err: log.text() });
        }
        let addresses: Value = serde_json::from_str(&line).unwrap();
        let at = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        let (mqtt, devices, admin) = (at("mqtt"), at("devices"), at("admin"));
        Ok(Served { child, log, mqtt, devices, admin })
    }
}

#[derive(Default)]
struct Log {
    kept: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.kept.lock().unwrap().0.push(line);
        self.more.notify_all();
    }

    fn end(&self) {
        self.kept.lock().unwrap().1 = true;
        self.more.notify_all();
    }

    fn text(&self) -> String {
        self.kept.lock().unwrap().0.join("\n")
    }

    fn wait(&self, enough: impl Fn(&(Vec<String>, bool)) -> bool) -> bool {
        let kept = self.kept.lock().unwrap();
        !self.more.wait_timeout_while(kept, WITHIN, |kept| !enough(kept)).unwrap().1.timed_out()
    }

    fn wait_end(&self) {
        assert!(self.wait(|kept| kept.1), "it did not end; it said\n{}", self.text());
    }
}

/// A serving process; dropped, it is killed.
pub(crate) struct Served {
    child: Child,
    log: Arc<Log>,
    pub(crate) mqtt: SocketAddr,
    pub(crate) devices: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Served {
    /// The log until now.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// How many lines there are; lines from here on are new.
    pub(crate) fn mark(&self) -> usize {
        self.log.kept.lock().unwrap().0.len()
    }

    /// The first line from `mark` on with this code that fits, as JSON.
    pub(crate) fn line(&self, mark: usize, code: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = |kept: &(Vec<String>, bool)| -> Option<Value> {
            let lines = kept.0[mark..].iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.into_iter().find(|line| line["code"] == code && fits(line))
        };
        assert!(self.log.wait(|kept| found(kept).is_some()), "no {code} in\n{}", self.log());
        found(&self.log.kept.lock().unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it by `signal`; its exit code, -1 if it had none, and all that it logged.
    pub(crate) fn end(mut self, signal: Signal) -> (i32, String) {
        self.signal(signal);
        self.log.wait_end();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, self.log())
    }

    /// A bundle of an earlier run, for the port that the devices' listener has now.
    pub(crate) fn moved(&self, bundle: &str) -> String {
        let (token, rest) = bundle.split_once('@').unwrap();
        let (_, pins) = rest.split_once('#').unwrap();
        format!("{token}@localhost:{}#{pins}", self.devices.port())
    }

    /// A stop in order.
    pub(crate) fn stop(self) -> String {
        let (code, log) = self.end(Signal::TERM);
        assert_eq!(code, 0, "{log}");
        log
    }

    /// An MQTT session with the identity of `NAME.crt` and `NAME.key`.
    pub(crate) async fn client(&self, site: &Site, files: &Path, name: &str) -> Result<Wire, String> {
        Wire::open(&site.connector(files, name), self.mqtt, &format!("{name}-test")).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the agent library takes from the machine.
pub(crate) fn agent_deps() -> agent::Deps {
    agent::Deps::new(Arc::new(agent::SystemClock), Arc::new(Mutex::new(SystemEntropy)))
}
