use std::fmt;

/// Who has to act on an error; every crate's error answers `blame()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The other side of the connection sent something wrong.
    Peer,
    /// A setting, a file, or a command of the operator is wrong.
    Operator,
    /// The machine or a service below us failed: disk, network, clock.
    Us,
    /// A state that our own code should have made impossible.
    Bug,
}

/// Untrusted text made safe to print: control and non-ASCII characters escaped, clipped at 64 bytes.
pub struct Clipped<'a>(pub &'a str);

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 64;
        for (shown, ch) in self.0.chars().enumerate() {
            if shown == SHOWN_MAX {
                return f.write_str("…");
            }
            if ch.is_ascii_graphic() && ch != '"' && ch != '\\' || ch == ' ' {
                write!(f, "{ch}")?;
            } else {
                write!(f, "{}", ch.escape_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipped_text_cannot_forge_a_log_line() {
        assert_eq!(Clipped("a\n\"b\u{1b}").to_string(), "a\\n\\\"b\\u{1b}");
        assert_eq!(Clipped(&"x".repeat(70)).to_string().chars().count(), 65);
    }
}
