//! The rows of `bench broker`: what is measured, what it must reach, and how it is printed.
//! In: readings. Out: a table, and the rows that fall short.
//! Invariant: every row shows the peer beside us, and a target is a ratio or a limit, never a wall time.
//! Never: rounds in our favour; a missing reading falls short.
//! Spec: DESIGN.md section 6.

use std::fmt::Write;

use crate::load::Shape;
use crate::measure::median;

/// What a row has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At least this many times cheaper than the peer.
    Times(f64),
    /// At most this much.
    AtMost(f64),
    /// Nothing; it is shown.
    Shown,
}

/// One row.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) shape: Shape,
    pub(crate) goal: Goal,
    /// Readings of one shard, of two shards, of the peer.
    pub(crate) readings: [Vec<f64>; 3],
}

impl Row {
    fn new(name: &str, shape: Shape, goal: Goal) -> Self {
        Self { name: name.to_owned(), unit: "us", shape, goal, readings: Default::default() }
    }

    fn ratio(&self) -> Option<f64> {
        Some(median(&self.readings[2])? / median(&self.readings[0])?)
    }

    /// Why the row falls short, if it does. The goal is for one shard, as the peer has one thread.
    fn shortfall(&self) -> Option<String> {
        let ours = median(&self.readings[0]);
        match (self.goal, ours, self.ratio()) {
            (Goal::Shown, Some(_), _) => None,
            (Goal::Times(least), Some(_), Some(ratio)) if ratio >= least => None,
            (Goal::AtMost(most), Some(ours), _) if ours <= most => None,
            (Goal::Times(least), Some(_), Some(ratio)) => {
                Some(format!("{}: {ratio:.2} times cheaper than the peer; the target is {least}", self.name))
            }
            (Goal::AtMost(most), Some(ours), _) => {
                Some(format!("{}: {ours:.1} {}; the target is at most {most}", self.name, self.unit))
            }
            _ => Some(format!("{}: no reading", self.name)),
        }
    }
}

/// The rows, in the order of the table.
pub(crate) fn rows(idle_connections: usize) -> Vec<Row> {
    let gather = |publishers, qos, window| Shape::Gather { publishers, qos, window };
    let mut rows = vec![
        Row::new("mTLS connection to CONNACK", Shape::Connect, Goal::Times(3.0)),
        Row::new("QoS 0, 50 -> 1, window 100", gather(50, 0, 100), Goal::Times(2.0)),
        Row::new("QoS 1, 50 -> 1, window 100", gather(50, 1, 100), Goal::Times(3.0)),
        Row::new("QoS 0, 1 -> 1, window 100", gather(1, 0, 100), Goal::Shown),
        Row::new("QoS 0, 1 -> 50, bursts of 20", Shape::Spread { subscribers: 50, burst: 20 }, Goal::Shown),
        Row::new("QoS 0, 1 -> 50, one at a time", Shape::Spread { subscribers: 50, burst: 1 }, Goal::Shown),
        Row::new("QoS 0, 50 -> 1, window 4", gather(50, 0, 4), Goal::Shown),
    ];
    rows.push(Row {
        name: format!("idle mTLS connection, of {idle_connections}"),
        unit: "KiB",
        shape: Shape::Idle { connections: idle_connections },
        goal: Goal::AtMost(22.0),
        readings: Default::default(),
    });
    rows
}

/// The table of medians.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut out = String::new();
    let head = ["CPU per operation", "1 shard", "2 shards", "Mosquitto", "ratio", "target"];
    // Writing to a string cannot fail.
    let mut line = |cells: [&str; 6]| {
        let [name, one, two, peer, ratio, goal] = cells;
        let _ = writeln!(out, "{name:<34} {one:>12} {two:>12} {peer:>12} {ratio:>7}   {goal}");
    };
    line(head);
    for row in rows {
        let cell = |at: usize| {
            median(&row.readings[at]).map_or("-".to_owned(), |value| {
                let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
                format!("{value:.digits$} {}", row.unit)
            })
        };
        let ratio = row.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.1}x"));
        let goal = match row.goal {
            Goal::Times(least) => format!(">= {least}x"),
            Goal::AtMost(most) => format!("<= {most} {}", row.unit),
            Goal::Shown => String::new(),
        };
        line([&row.name, &cell(0), &cell(1), &cell(2), &ratio, &goal]);
    }
    out
}

/// Every row that falls short, in words.
pub(crate) fn shortfalls(rows: &[Row]) -> Vec<String> {
    rows.iter().filter_map(Row::shortfall).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(goal: Goal, ours: f64, peer: f64) -> Row {
        let mut row = Row::new("r", Shape::Connect, goal);
        row.readings = [vec![ours], vec![], vec![peer]];
        row
    }

    #[test]
    fn a_row_falls_short_just_below_its_target() {
        assert_eq!(row(Goal::Times(3.0), 1.0, 3.0).shortfall(), None);
        assert_eq!(
            row(Goal::Times(3.0), 1.0, 2.99).shortfall().unwrap(),
            "r: 2.99 times cheaper than the peer; the target is 3"
        );
        assert_eq!(row(Goal::AtMost(22.0), 22.0, 1.0).shortfall(), None);
        assert_eq!(
            row(Goal::AtMost(22.0), 22.1, 99.0).shortfall().unwrap(),
            "r: 22.1 us; the target is at most 22"
        );
        assert_eq!(row(Goal::Shown, 9.0, 1.0).shortfall(), None);
    }

    #[test]
    fn a_row_without_a_reading_falls_short() {
        let mut row = row(Goal::Shown, 1.0, 1.0);
        row.readings = Default::default();
        assert_eq!(row.shortfall().unwrap(), "r: no reading");
    }

    #[test]
    fn the_table_shows_medians_and_the_ratio() {
        let mut row = row(Goal::Times(2.0), 2.0, 8.0);
        row.readings[0] = vec![2.0, 100.0, 1.5];
        let text = render(&[row]);
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["r", "2.00", "us", "-", "8.00", "us", "4.0x", ">=", "2x"]);
    }
}
