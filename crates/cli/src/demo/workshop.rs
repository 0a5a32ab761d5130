//! The attacker's workshop: a hierarchy of its own under our names, and certificates that our own CAs
//! would never have signed, for the demonstration that they are refused.

use std::time::Duration;

use signer::{FileKey, RawSigner, SystemEntropy};
use tls::Identity;
use types::{Entropy, Secret, Serial, Wall};
use x509::{CaPurpose, Certificate, Draft, KeyKind, Profile, SubjectTemplate};

use crate::demo::stage::Stage;
use crate::fail::{Done, Fail};

/// A CA whose key the attacker holds.
pub(crate) struct Forge {
    certificate: Certificate,
    key: FileKey,
}

const DAY: Duration = Duration::from_secs(86_400);

fn serial() -> Serial {
    let mut random = [0; 20];
    SystemEntropy.fill(&mut random);
    Serial::from_random(random)
}

/// When a forged certificate holds.
#[derive(Clone, Copy)]
pub(crate) enum Dates {
    Now,
    Past,
}

impl Dates {
    fn span(self, now: Wall) -> (Wall, Wall) {
        match self {
            Self::Now => (now.minus(DAY), now.plus(DAY * 30)),
            Self::Past => (now.minus(DAY * 30), now.minus(DAY)),
        }
    }
}

impl Forge {
    /// A root and a sub-CA with the very names of ours, and other keys.
    pub(crate) fn same_names(stage: &Stage, label: &str, purpose: CaPurpose) -> Done<Self> {
        let now = stage.clock.now().wall;
        let ours = |label: &str| -> Done<Certificate> {
            Certificate::parse_pem(&fs_err::read_to_string(stage.layout.ca(label))?).map_err(Fail::failed)
        };
        let name =
            |certificate: &Certificate| certificate.common_names().first().cloned().unwrap_or_default();
        let root_key = FileKey::generate(KeyKind::P256).map_err(Fail::failed)?;
        let draft = Draft {
            serial: serial(),
            issuer: None,
            common_name: name(&stage.root),
            template: template(),
            spki_der: root_key.spki_der().to_vec(),
            not_before: now.minus(DAY),
            not_after: now.plus(DAY * 60),
            profile: Profile::Root,
            signature: root_key.algorithm(),
            crl_url: None,
            aia_url: None,
        };
        let root = signed(&draft, &root_key)?;
        let key = FileKey::generate(KeyKind::P256).map_err(Fail::failed)?;
        let sub = Draft {
            serial: serial(),
            issuer: Some(root),
            common_name: name(&ours(label)?),
            spki_der: key.spki_der().to_vec(),
            profile: Profile::SubCa { purpose },
            ..draft
        };
        Ok(Self { certificate: signed(&sub, &root_key)?, key })
    }

    /// One of our own sub-CAs, as if its key had been stolen.
    pub(crate) fn stolen(stage: &Stage, label: &str) -> Done<Self> {
        let certificate =
            Certificate::parse_pem(&fs_err::read_to_string(stage.layout.ca(label))?).map_err(Fail::failed)?;
        let unlock = Secret::new(fs_err::read(stage.layout.unlock_secret())?);
        let key = FileKey::load(&stage.layout.key(label), Some(&unlock)).map_err(Fail::failed)?;
        Ok(Self { certificate, key })
    }

    /// A certificate of this CA, with its key.
    pub(crate) fn identity(
        &self,
        stage: &Stage,
        common_name: &str,
        profile: Profile,
        dates: Dates,
    ) -> Done<Identity> {
        let key = FileKey::generate(KeyKind::P256).map_err(Fail::failed)?;
        let (not_before, not_after) = dates.span(stage.clock.now().wall);
        let draft = Draft {
            serial: serial(),
            issuer: Some(self.certificate.clone()),
            common_name: common_name.to_owned(),
            template: template(),
            spki_der: key.spki_der().to_vec(),
            not_before,
            not_after,
            profile,
            signature: self.key.algorithm(),
            crl_url: None,
            aia_url: None,
        };
        let leaf = signed(&draft, &self.key)?;
        Identity::new(vec![leaf, self.certificate.clone()], &key.pkcs8_der()).map_err(Fail::failed)
    }
}

fn template() -> SubjectTemplate {
    SubjectTemplate { organization: Some("Bailiwick".to_owned()), ..SubjectTemplate::default() }
}

fn signed(draft: &Draft, key: &FileKey) -> Done<Certificate> {
    let tbs = x509::build_tbs(draft).map_err(Fail::failed)?;
    let signature = key.sign(&tbs).map_err(Fail::failed)?;
    Certificate::parse_der(&x509::assemble(&tbs, draft.signature, &signature)).map_err(Fail::failed)
}
