//! The device's binary: first boot, the running device, and what its folder holds.
//! In: arguments, signals. Out: data on stdout, words on stderr, exit codes 0, 1, 2 and 3.
//! Invariant: exit code 3 means that somebody refused, 1 that something did not work.
//! Never: prints a token or a key.
//! Spec: DESIGN.md section 4 (CLI).

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::{AgentError, Bundle, Config, Deps, Event, Home, Layout, Simulated, Source, SystemClock};
use clap::{Args, Parser, Subcommand};
use signer::SystemEntropy;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Bailiwick on the device: the first boot, the connection, the readings.
#[derive(Parser)]
#[command(name = "bailiwick-agent", version)]
struct Cli {
    /// Also print what the agent does inside.
    #[arg(long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// First boot: make a key, prove the server, get a certificate. May be repeated.
    Provision {
        /// The device's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The bundle; `-` reads it from standard input; without it, the folder's own is used.
        #[arg(long)]
        bundle: Option<String>,
    },
    /// Connect and send readings until stopped.
    Run(Run),
    /// Show what the folder holds.
    Status {
        /// The device's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Run {
    /// The device's folder.
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    source: From,
    /// Seconds between readings.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: Option<u64>,
    /// The broker, where it is not the provisioning server at port 8883.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    broker: Option<(String, u16)>,
    /// The topics, where they are not those that suit the source.
    #[arg(long)]
    layout: Option<Layout>,
}

#[derive(Args)]
#[group(multiple = false)]
struct From {
    /// Make the readings up; this is the default, as a sensor.
    #[arg(long, value_name = "KIND")]
    simulate: Option<Simulated>,
    /// Send each line of standard input.
    #[arg(long)]
    stdin: bool,
    /// Run a shell command for each reading and send the last line that it prints.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("\"{text}\" is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(host);
    match port.parse() {
        Ok(port) if port != 0 && !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(carry_out(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error[{}]: {error}", error.code()));
            if error.is_denial() { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

async fn carry_out(command: Command) -> Result<(), AgentError> {
    let deps = Deps::new(Arc::new(SystemClock), Arc::new(Mutex::new(SystemEntropy)));
    match command {
        Command::Provision { dir, bundle } => {
            let bundle = match bundle.as_deref() {
                Some("-") => Bundle::parse(&read_line()?)?,
                Some(text) => Bundle::parse(text)?,
                None => Home::new(&dir).kept_bundle()?.ok_or_else(|| AgentError::State {
                    path: Home::new(&dir).bundle_file().display().to_string(),
                    detail: "not there; give the bundle with --bundle".to_owned(),
                })?,
            };
            let device = agent::provision(&dir, &bundle, &deps).await?;
            let word = if device.already { "already provisioned" } else { "provisioned" };
            say(&format!(
                "{word} as \"{}\" (0x{}), valid until {}",
                device.device_id,
                device.certificate.serial(),
                device.certificate.not_after()
            ));
            print(&device.device_id.to_string());
            Ok(())
        }
        Command::Run(run) => run_device(run, deps).await,
        Command::Status { dir, json } => {
            let status = agent::status(&dir)?;
            let value = serde_json::to_value(&status).unwrap_or_default();
            if json {
                print(&value.to_string());
            } else {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    print(&format!("{name:<13} {}", if value.is_null() { "-" } else { &text }));
                }
            }
            Ok(())
        }
    }
}

async fn run_device(run: Run, deps: Deps) -> Result<(), AgentError> {
    let source = match (run.source.simulate, run.source.stdin, run.source.exec) {
        (_, true, _) => Source::Stdin,
        (_, _, Some(command)) => Source::Exec(command),
        (kind, false, None) => Source::Simulated(kind.unwrap_or(Simulated::Sensor)),
    };
    let mut config = Config::new(run.dir, source);
    config.interval = run.interval.map(Duration::from_secs);
    config.broker = run.broker;
    config.layout = run.layout;
    let (stop, shutdown) = watch::channel(false);
    tokio::spawn(async move {
        wait_for_signal().await;
        stop.send_replace(true);
    });
    let (events, mut told) = mpsc::channel(256);
    let telling = tokio::spawn(async move {
        while let Some(event) = told.recv().await {
            tell(&event);
        }
    });
    let ended = agent::run(config, deps, shutdown, events).await;
    let _ = telling.await;
    ended
}

async fn wait_for_signal() {
    let mut terminated = match signal(SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be waited for");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

fn tell(event: &Event) {
    match event {
        Event::Started { device, boot } => say(&format!("\"{device}\" started, boot {boot}")),
        Event::Connected { session_present: true } => say("connected; the broker kept the session"),
        Event::Connected { session_present: false } => say("connected"),
        Event::Disconnected { error } => say(&format!("not connected[{}]: {error}", error.code())),
        Event::Retrying { after } => say(&format!("next attempt in {:.1} s", after.as_secs_f32())),
        Event::Reading { seq } => tracing::debug!(seq, "reading"),
        Event::Dropped { seq } => say(&format!("message {seq} dropped: too many wait to be sent")),
        Event::NoReading { error } => say(&format!("no reading: {error}")),
        Event::Command { name, accepted: true, detail } => say(&format!("command {name}: {detail}")),
        Event::Command { name, accepted: false, detail } => say(&format!("command {name} refused: {detail}")),
        Event::CommandsRefused { error } => say(&format!("no commands: {error}")),
        Event::Stopped => say("stopped"),
        other => tracing::debug!(?other, "event"),
    }
}

fn read_line() -> Result<String, AgentError> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| AgentError::Source { detail: error.to_string() })?;
    Ok(line)
}

/// Words for a person; a closed stderr is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Data; a reader that is gone wants no more.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
