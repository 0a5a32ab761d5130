//! `bailiwick`: arguments, printing and exit codes of the one binary.
//! In: the command line. Out: data on stdout, talk on stderr; exit 0 done, 1 failed, 2 usage, 3 denied.
//! Invariant: every operator verb goes through the same operator API, with or without a running server.
//! Never: decides who may do what; that is asked of the crates below.
//! Spec: DESIGN.md section 4, "CLI".

mod args;
mod demo;
mod fail;
mod print;
mod talk;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Noun};
use crate::fail::{Done, Fail};
use crate::print::Printer;
use crate::talk::Talk;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The data folder when neither the option nor the environment names one.
const DIR_DEFAULT: &str = "bailiwick-data";
const DEMO_DIR_DEFAULT: &str = "bailiwick-demo";

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(fail) => fail.say(),
    }
}

fn run(cli: Cli) -> Done<ExitCode> {
    let named = cli.dir.or_else(|| std::env::var_os("BAILIWICK_DIR").map(PathBuf::from));
    let fallback = if matches!(cli.noun, Noun::Demo(_)) { DEMO_DIR_DEFAULT } else { DIR_DEFAULT };
    let dir = named.unwrap_or_else(|| fallback.into());
    let printer = Printer { json: cli.json };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fail::failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        match cli.noun {
            Noun::Init(init) => verbs::init::init(&dir, init, printer).await?,
            Noun::Serve(serve) => verbs::serve::serve(&dir, &serve, printer).await?,
            Noun::Demo(demo) => return demo::demo(&dir, &demo).await,
            Noun::Policy(args::Policy::Check { files }) => verbs::policy::check(&dir, files, printer)?,
            Noun::Ca(args::Ca::Export { out }) => verbs::ca::export(&dir, &out, printer).await?,
            Noun::Ca(args::Ca::Root(args::CaRoot::Detach { to })) => verbs::ca::detach(&dir, &to, printer)?,
            Noun::Store(args::Store::Recover { yes }) => verbs::store::recover(&dir, yes, printer).await?,
            Noun::Store(args::Store::AcceptClock { yes }) => {
                verbs::store::accept_clock(&dir, yes, printer).await?
            }
            noun => {
                let talk = Talk::open(&dir).await?;
                let outcome = asked(noun, &dir, &talk, printer).await;
                talk.close().await;
                outcome?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The verbs that ask the operator API.
async fn asked(noun: Noun, dir: &std::path::Path, talk: &Talk, printer: Printer) -> Done {
    match noun {
        Noun::Device(verb) => verbs::device::device(verb, dir, talk, printer).await,
        Noun::Token(verb) => verbs::token::token(verb, talk, printer).await,
        Noun::Service(verb) => verbs::people::service(verb, dir, talk, printer).await,
        Noun::Operator(verb) => verbs::people::operator(verb, dir, talk, printer).await,
        Noun::Client(verb) => verbs::client::client(verb, talk, printer).await,
        Noun::Policy(verb) => verbs::policy::policy(verb, talk, printer).await,
        Noun::Ca(_) => verbs::ca::status(dir, talk, printer).await,
        Noun::Log(verb) => verbs::log::log(verb, dir, talk, printer).await,
        Noun::Status => verbs::status::status(talk, printer).await,
        Noun::Reload => verbs::status::reload(talk, printer).await,
        Noun::Init(_) | Noun::Serve(_) | Noun::Demo(_) | Noun::Store(_) => {
            Err(Fail::usage("this command does not ask a server"))
        }
    }
}
