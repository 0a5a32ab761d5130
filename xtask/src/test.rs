//! `cargo xtask test`: everything that the project promises, in one command.

use crate::judges;
use crate::run::{Outcome, Stopwatch, binary, captured, command, shown};
use crate::tidy;

type Step = (&'static str, fn() -> Outcome);

const STEPS: &[Step] = &[
    ("tidy", tidy::tidy),
    ("fmt", || shown(command("cargo", &["fmt", "--all", "--check"]))),
    ("clippy", || {
        shown(command(
            "cargo",
            &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"],
        ))
    }),
    ("build", || shown(command("cargo", &["build", "--release", "--workspace", "--bins"]))),
    ("tests", || shown(command("cargo", &["test", "--release", "--workspace", "--no-fail-fast"]))),
    ("demo", demo),
    ("install", judges::install),
    ("openssl", || judges::judge("openssl", false)),
    ("curl", || judges::judge("curl", false)),
    ("mosquitto", || judges::judge("mosquitto", false)),
    ("mqttjs", || judges::judge("mqttjs", false)),
    ("paho", || judges::judge("paho", false)),
];

/// Runs the steps in order, all of them even after a failure, and prints the table.
pub(crate) fn test(rest: &[&str]) -> Outcome {
    let only = match rest {
        [] => None,
        ["--only", step] if STEPS.iter().any(|(name, _)| name == step) => Some(*step),
        _ => {
            let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
            return Err(format!("test takes --only STEP; the steps are {}", names.join(", ")));
        }
    };
    let mut rows = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_none_or(|wanted| wanted == *name)) {
        println!("\n== {name}");
        let watch = Stopwatch::start();
        let outcome = step();
        if let Err(error) = &outcome {
            eprintln!("{name}: {error}");
        }
        rows.push((*name, watch.elapsed().as_secs_f64(), outcome.is_ok()));
    }
    println!("\n{:<12} {:>8}", "step", "seconds");
    for (name, seconds, passed) in &rows {
        println!("{name:<12} {seconds:>8.1}  {}", if *passed { "ok" } else { "FAILED" });
    }
    let failed = rows.iter().filter(|row| !row.2).count();
    println!("{} passed, {failed} failed", rows.len() - failed);
    if failed == 0 { Ok(()) } else { Err(format!("{failed} steps failed")) }
}

/// The README's demo, twice in the same folder, because a second run must work too.
fn demo() -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let dir = folder.path().join("demo");
    let dir = dir.to_string_lossy();
    for run in ["first", "second"] {
        let text = captured(command(binary("bailiwick"), &["demo", "--any-port", "--dir", &dir]))?;
        if run == "first" {
            println!("{text}");
        }
    }
    Ok(())
}
