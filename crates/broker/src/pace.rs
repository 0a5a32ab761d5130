use std::time::Duration;

use types::Mono;

/// Lets the first through at once and then at most one per interval, and counts what it withholds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    last: Option<Mono>,
    withheld: u64,
}

impl Pace {
    /// How many were withheld since the last one that was let through; `None` withholds this one.
    pub(crate) fn pass(&mut self, now: Mono, every: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < every) {
            self.withheld = self.withheld.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }
}

/// What a line adds about those that were withheld before it; nothing if there were none.
pub(crate) fn withheld_text(count: u64) -> String {
    if count == 0 { String::new() } else { format!("; {count} more since the last such line") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_at_once_and_the_next_after_the_interval_with_the_count_of_those_between() {
        let mut pace = Pace::default();
        let second = Duration::from_secs(1);
        let at = |millis| Mono(5).plus(Duration::from_millis(millis));
        assert_eq!(pace.pass(at(0), second), Some(0));
        assert_eq!(pace.pass(at(0), second), None);
        assert_eq!(pace.pass(at(999), second), None);
        assert_eq!(pace.pass(at(1_000), second), Some(2));
        assert_eq!(pace.pass(at(1_001), second), None);
        assert_eq!(pace.pass(at(60_000), second), Some(1));
        assert_eq!(pace.pass(at(90_000), second), Some(0));
    }

    #[test]
    fn a_line_speaks_of_the_withheld_only_if_there_were_any() {
        assert_eq!(withheld_text(0), "");
        assert_eq!(withheld_text(7), "; 7 more since the last such line");
    }
}
