use std::fmt::Write as _;

use crate::ports::{Sample, SampleKind};

/// The samples in the Prometheus text format, version 0.0.4: HELP and TYPE once for each name,
/// then its values. Samples of one name are brought together, as the format asks.
pub(crate) fn render(samples: &[Sample]) -> String {
    let mut out = String::new();
    for (at, first) in samples.iter().enumerate() {
        if samples.iter().take(at).any(|earlier| earlier.name == first.name) {
            continue;
        }
        let kind = match first.kind {
            SampleKind::Counter => "counter",
            SampleKind::Gauge => "gauge",
        };
        let help = first.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# HELP {} {help}\n# TYPE {} {kind}", first.name, first.name);
        for sample in samples.iter().filter(|sample| sample.name == first.name) {
            out.push_str(sample.name);
            render_labels(&mut out, &sample.labels);
            let _ = writeln!(out, " {}", sample.value);
        }
    }
    out
}

fn render_labels(out: &mut String, labels: &[(&'static str, String)]) {
    if labels.is_empty() {
        return;
    }
    for (at, (name, value)) in labels.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{name}=\"{value}\"");
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Sample {
        Sample { name, help: "What it counts.", kind: SampleKind::Counter, labels, value }
    }

    #[test]
    fn samples_of_one_name_stand_together_under_one_head() {
        let refused = |reason: &str| vec![("reason", reason.to_owned())];
        let text = render(&[
            sample("bailiwick_refused_total", refused("trust.revoked"), 2.0),
            Sample { kind: SampleKind::Gauge, ..sample("bailiwick_up", vec![], 1.0) },
            sample("bailiwick_refused_total", refused("trust.expired"), 0.5),
        ]);
        assert_eq!(
            text,
            "# HELP bailiwick_refused_total What it counts.\n\
             # TYPE bailiwick_refused_total counter\n\
             bailiwick_refused_total{reason=\"trust.revoked\"} 2\n\
             bailiwick_refused_total{reason=\"trust.expired\"} 0.5\n\
             # HELP bailiwick_up What it counts.\n\
             # TYPE bailiwick_up gauge\n\
             bailiwick_up 1\n"
        );
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let text = render(&[sample("m", vec![("a", "x\"}\n\\".to_owned()), ("b", String::new())], 1.0)]);
        assert!(text.ends_with("m{a=\"x\\\"}\\n\\\\\",b=\"\"} 1\n"), "{text}");
    }

    #[test]
    fn nothing_renders_as_nothing() {
        assert_eq!(render(&[]), "");
    }
}
