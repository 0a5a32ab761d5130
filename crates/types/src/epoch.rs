use std::fmt;

/// A point in the history of trust: every revocation, denial and suspension raises the counter;
/// restoring a backup raises the incarnation. Compare with `>=`, never wait for a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Raised by `store recover` only.
    pub incarnation: u32,
    /// Raised by every act that takes trust away or gives it back.
    pub counter: u64,
}

impl Epoch {
    /// The epoch after this one, in the same incarnation.
    #[must_use]
    pub fn next(self) -> Self {
        Self { incarnation: self.incarnation, counter: self.counter + 1 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.incarnation == 0 {
            write!(f, "{}", self.counter)
        } else {
            write!(f, "{}.{}", self.incarnation, self.counter)
        }
    }
}
