use std::fmt;
use std::sync::Arc;

use crate::entropy::Entropy;

/// What a generated id names; it decides the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `dev_…`: a device that was given no name of its own.
    Device,
    /// `proj_…`: a project.
    Project,
    /// `dt_…`: a device token.
    DeviceToken,
    /// Bare, no prefix: the public half of a provisioning token.
    ProvisioningToken,
}

impl IdKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Device => "dev_",
            Self::Project => "proj_",
            Self::DeviceToken => "dt_",
            Self::ProvisioningToken => "",
        }
    }
}

/// A prefix and 26 lower-case Crockford base-32 characters: 130 random bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GeneratedId(Arc<str>);

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHARACTERS: usize = 26;

impl GeneratedId {
    /// A fresh id; each character takes five bits of one random byte.
    pub fn fresh(kind: IdKind, entropy: &mut dyn Entropy) -> Self {
        let mut random = [0_u8; CHARACTERS];
        entropy.fill(&mut random);
        let mut text = String::from(kind.prefix());
        text.extend(random.iter().map(|byte| char::from(CROCKFORD[usize::from(byte & 31)])));
        Self(Arc::from(text))
    }

    /// The id with its prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GeneratedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A project's id: `proj_` and 26 characters, or `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProjectId(Arc<str>);

impl ProjectId {
    /// The project that `init` makes.
    pub const DEFAULT: &'static str = "default";

    /// Takes an id as the store or a request holds it; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let generated = text
            .strip_prefix("proj_")
            .is_some_and(|rest| rest.len() == CHARACTERS && rest.bytes().all(|b| CROCKFORD.contains(&b)));
        (generated || text == Self::DEFAULT).then(|| Self(Arc::from(text)))
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u8);
    impl Entropy for Counting {
        fn fill(&mut self, out: &mut [u8]) {
            for byte in out {
                *byte = self.0;
                self.0 = self.0.wrapping_add(1);
            }
        }
    }

    #[test]
    fn a_generated_id_is_its_prefix_and_26_crockford_characters() {
        let id = GeneratedId::fresh(IdKind::Project, &mut Counting(0));
        assert_eq!(id.as_str(), "proj_0123456789abcdefghjkmnpqrs");
        assert_eq!(ProjectId::parse(id.as_str()).unwrap().as_str(), id.as_str());
        assert_eq!(ProjectId::parse("proj_x"), None);
        assert_eq!(ProjectId::parse("proj_0123456789abcdefghjkmnpqil"), None);
    }
}
