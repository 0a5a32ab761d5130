//! Starts commands and says what failed, with the command line and its exit.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A result whose error is a sentence for the terminal.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The folder of the workspace's root manifest.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A release binary of the workspace.
pub(crate) fn binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// A command in the workspace's root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs to the end with the terminal's own output.
pub(crate) fn shown(mut command: Command) -> Outcome {
    let line = format!("{command:?}");
    let status = command.status().map_err(|error| format!("cannot start {line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{line}: {status}")) }
}

/// Runs to the end and returns what it printed on stdout; the error carries both streams.
pub(crate) fn captured(mut command: Command) -> Outcome<String> {
    let line = format!("{command:?}");
    let output = command.output().map_err(|error| format!("cannot start {line}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{line}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Runs to the end; returns whether it succeeded, and both streams.
pub(crate) fn tried(mut command: Command) -> Outcome<(bool, String)> {
    let line = format!("{command:?}");
    let output = command.output().map_err(|error| format!("cannot start {line}: {error}"))?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), text))
}

/// Whether a program is on the path.
pub(crate) fn present(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// A stopwatch for the table of seconds; a person reads it, no check does.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the table of seconds and the deadlines of the judges")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// `cargo xtask bench NAME`: builds and runs the measurements.
pub(crate) fn bench(name: &str, rest: &[&str]) -> Outcome {
    shown(command("cargo", &["build", "--release", "--package", "cli", "--package", "benches"]))?;
    let mut bench = command(binary("benches"), &[name]);
    bench.args(rest);
    shown(bench)
}

/// `cargo xtask soak NAME`: the long form of a proof that the tests run in a short form.
pub(crate) fn soak(name: &str, rest: &[&str]) -> Outcome {
    let (package, test) = match name {
        "revoke" => ("server", "soak_revoke"),
        "power" => ("enroll", "soak_power"),
        _ => return Err(format!("no soak \"{name}\"; there are: revoke, power")),
    };
    let mut soak =
        command("cargo", &["test", "--release", "--package", package, "--test", test, "--", "--nocapture"]);
    soak.args(rest).env("BAILIWICK_SOAK", "long");
    shown(soak)
}
