//! Measures what the product costs, beside the peers that a fleet would use instead.
//! In: `broker [--check] [--short] [--full] [--rounds N] [--only TEXT]`. Out: a table; exit code 1 with `--check` below a target.
//! Invariant: peer and product run in one go, on one machine, with the same certificates and rules.
//! Never: asserts a wall time.
//! Spec: DESIGN.md section 6.

mod client;
mod clock;
mod load;
mod measure;
mod mosquitto;
mod packet;
mod pki;
mod serve;
mod table;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use types::Clock;

use crate::load::{Cast, Shape, Span};
use crate::mosquitto::Running;
use crate::table::Row;

/// What went wrong, in words for whoever runs the bench.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The allocator that the server's binary uses too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: benches broker [--check] [--short] [--full] [--rounds N] [--only TEXT]";
const DEVICES: usize = 64;

struct Options {
    check: bool,
    short: bool,
    full: bool,
    rounds: Option<usize>,
    only: Option<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = match words.as_slice() {
        ["broker", rest @ ..] => match options(rest) {
            Some(options) => broker_group(&options),
            None => return usage(),
        },
        [serve::COMMAND, dir, shards] => match shards.parse() {
            Ok(shards) => {
                raise_file_limit().and_then(|()| serve::serve(Path::new(dir), shards)).map(|()| true)
            }
            Err(_) => return usage(),
        },
        _ => return usage(),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            say(&format!("bench failed: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    say(USAGE);
    ExitCode::from(2)
}

fn say(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn options(words: &[&str]) -> Option<Options> {
    let mut options = Options { check: false, short: false, full: false, rounds: None, only: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--check" => options.check = true,
            "--short" => options.short = true,
            "--full" => options.full = true,
            "--rounds" => options.rounds = Some(words.next()?.parse().ok().filter(|&rounds| rounds > 0)?),
            "--only" => options.only = Some((*words.next()?).to_owned()),
            _ => return None,
        }
    }
    Some(options)
}

/// As many open files as the system lets this process have.
fn raise_file_limit() -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// Runs the group; true unless a target was to be checked and is missed.
fn broker_group(options: &Options) -> Result<bool, Failure> {
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(measure_rows(options))?;
    let mut out = std::io::stdout();
    write!(out, "{}", table::render(&rows))?;
    let shortfalls = table::shortfalls(&rows);
    for shortfall in &shortfalls {
        say(&format!("falls short: {shortfall}"));
    }
    if options.check && shortfalls.is_empty() {
        say("every target is met");
    }
    Ok(!options.check || shortfalls.is_empty())
}

async fn measure_rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let (rounds, idle, span) = if options.short {
        (3, 2_000, Span { warm_up: Duration::from_millis(100), counted: Duration::from_millis(350) })
    } else {
        let idle = if options.full { 10_000 } else { 2_000 };
        (5, idle, Span { warm_up: Duration::from_millis(300), counted: Duration::from_secs(1) })
    };
    let rounds = options.rounds.unwrap_or(rounds);
    let mut rows = table::rows(idle);
    rows.retain(|row| options.only.as_ref().is_none_or(|only| row.name.contains(only.as_str())));

    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let now = clock::SystemClock::new().now();
    let cast = pki::make(dirs[0].path(), DEVICES, now).await?;
    // Each of our processes needs a data folder of its own.
    for entry in fs_err::read_dir(dirs[0].path())? {
        let entry = entry?;
        fs_err::copy(entry.path(), dirs[1].path().join(entry.file_name()))?;
    }
    let at = [dirs[0].path(), dirs[1].path()];

    let loads: Vec<usize> = (0..rows.len()).filter(|&row| !is_idle(&rows[row])).collect();
    if !loads.is_empty() {
        let servers = start_all(at).await?;
        for round in 1..=rounds {
            say(&format!("round {round} of {rounds}"));
            for &row in &loads {
                for (server, running) in servers.iter().enumerate() {
                    read_into(&mut rows[row], server, running, &cast, span).await?;
                }
            }
        }
    }
    // Memory is read in processes that have done nothing else, once: it does not vary.
    for row in rows.iter_mut().filter(|row| is_idle(row)) {
        say(&row.name);
        let servers = start_all(at).await?;
        for (server, running) in servers.iter().enumerate() {
            read_into(row, server, running, &cast, span).await?;
        }
    }
    Ok(rows)
}

fn is_idle(row: &Row) -> bool {
    matches!(row.shape, Shape::Idle { .. })
}

async fn start_all(dirs: [&Path; 2]) -> Result<[Running; 3], Failure> {
    Ok([serve::start(dirs[0], 1).await?, serve::start(dirs[1], 2).await?, mosquitto::start(dirs[0]).await?])
}

async fn read_into(
    row: &mut Row,
    server: usize,
    running: &Running,
    cast: &Cast,
    span: Span,
) -> Result<(), Failure> {
    let who = ["our broker with 1 shard", "our broker with 2 shards", "mosquitto"];
    let reading = load::run(row.shape, running.target, cast, span)
        .await
        .map_err(|failure| format!("{}, {}: {failure}", row.name, who[server]))?;
    row.readings[server].push(reading);
    Ok(())
}
