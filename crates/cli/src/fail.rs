//! How a command ends: what is said on stderr, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Fail {
    code: u8,
    text: String,
    hint: Option<String>,
}

/// What a command comes to.
pub(crate) type Done<T = ()> = Result<T, Fail>;

impl Fail {
    /// It was tried and did not work: exit 1.
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self { code: 1, text: text.to_string(), hint: None }
    }

    /// The command line does not make sense: exit 2.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self { code: 2, text: text.to_string(), hint: None }
    }

    /// It was refused: exit 3.
    pub(crate) fn denied(text: impl fmt::Display) -> Self {
        Self { code: 3, text: text.to_string(), hint: None }
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Says it on stderr.
    pub(crate) fn say(&self) -> ExitCode {
        for line in self.text.lines() {
            eprintln!("bailiwick: {line}");
        }
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

impl From<server::ServerError> for Fail {
    fn from(error: server::ServerError) -> Self {
        Self::failed(error)
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
