//! The build's own commands: `cargo xtask test | tidy | bench | judge | soak`.
//! In: the command line. Out: printed steps; exit 0 done, 1 failed, 2 usage.
//! Invariant: `test` runs everything that the project promises, and ends with a table of seconds.
//! Never: leaves a process behind, or installs anything outside the package managers' own places.

mod attacks;
mod judges;
mod run;
mod source;
mod stand;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  test [--only STEP]      install what the outside judges need, then pass everything
  tidy                    hold the crates' edges, licences and files against the rules
  bench broker [ARGS]     measure beside Mosquitto; --check exits 1 below a target, --short takes less time
  judge NAME|all [--full] one outside judge: openssl, curl, mosquitto, mqttjs, paho
  soak NAME [ARGS]        a long proof: revoke, power
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", rest @ ..] => test::test(rest),
        ["tidy"] => tidy::tidy(),
        ["bench", name, rest @ ..] => run::bench(name, rest),
        ["judge", name, rest @ ..] => judges::judge(name, rest.contains(&"--full")),
        ["soak", name, rest @ ..] => run::soak(name, rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
