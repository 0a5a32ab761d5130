use std::fmt;

use crate::id::DeviceId;

/// What kind of party a certificate speaks for; it comes from the anchor and from the registry,
/// which must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// A device of the fleet.
    Device,
    /// A backend that reads or commands the fleet.
    Service,
    /// A person who runs the installation.
    Operator,
}

impl PrincipalKind {
    /// The lower-case word: `device`, `service`, `operator`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Service => "service",
            Self::Operator => "operator",
        }
    }

    /// The kind that [`PrincipalKind::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Device, Self::Service, Self::Operator].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Who acts: a kind and a name. Names are unique across the kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The kind.
    pub kind: PrincipalKind,
    /// The name, in the grammar of device ids for every kind.
    pub name: DeviceId,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.as_str(), self.name)
    }
}
