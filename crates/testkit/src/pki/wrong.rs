use std::net::IpAddr;
use std::time::Duration;

use ca::Wanted;
use signer::{FileKey, RawSigner as _};
use types::{DeviceId, Now, Principal, PrincipalKind, Wall};
use x509::{Draft, KeyKind, Profile};

use super::der::{HandTbs, HandUsage};
use super::{Authority, DAY, LEAF_LIFETIME, Leaf, Pki, name, server_wanted};

const MONTH: Duration = Duration::from_secs(30 * DAY);

/// The certificates that must be refused, each wrong in exactly one way.
impl Pki {
    /// A device's certificate that expired more than ten months ago.
    #[must_use]
    pub fn expired_device(&self, id: &str) -> Leaf {
        let made = Now { wall: self.now.wall.minus(LEAF_LIFETIME), ..self.now };
        self.issue(Wanted::Device { id: name(id) }, KeyKind::P256, made, MONTH)
    }

    /// A device's certificate whose first moment is a month away.
    #[must_use]
    pub fn not_yet_valid_device(&self, id: &str) -> Leaf {
        let made = Now { wall: self.now.wall.plus(MONTH), ..self.now };
        self.issue(Wanted::Device { id: name(id) }, KeyKind::P256, made, LEAF_LIFETIME)
    }

    /// A server's certificate that expired more than ten months ago.
    #[must_use]
    pub fn expired_server(&self, dns: &[&str], ips: &[IpAddr]) -> Leaf {
        let made = Now { wall: self.now.wall.minus(LEAF_LIFETIME), ..self.now };
        self.issue(server_wanted(dns, ips), KeyKind::P256, made, MONTH)
    }

    /// A server's certificate that the devices CA signed: the false broker of somebody who has
    /// the devices CA. `ca` would not make it.
    #[must_use]
    pub fn server_by_devices_ca(&self, dns: &[&str], ips: &[IpAddr]) -> Leaf {
        let names = dns.iter().map(|&name| name.to_owned()).collect();
        let common_name = dns.first().map_or_else(|| "server".to_owned(), |&name| name.to_owned());
        let profile = Profile::Server { dns: names, ips: ips.to_vec() };
        self.unlinted(&self.devices, profile, common_name, None)
    }

    /// The certificate of a principal from a client CA that does not sign for its kind: a device
    /// from the services CA, a service or an operator from the devices CA. `ca` would not make it.
    #[must_use]
    pub fn by_wrong_ca(&self, kind: PrincipalKind, id: &str) -> Leaf {
        let name = name(id);
        let (authority, profile) = match kind {
            PrincipalKind::Device => (&self.services, Profile::Device { id: name.clone() }),
            PrincipalKind::Service => (&self.devices, Profile::Service { name: name.clone() }),
            PrincipalKind::Operator => (&self.devices, Profile::Operator { name: name.clone() }),
        };
        self.unlinted(authority, profile, id.to_owned(), Some(Principal { kind, name }))
    }

    /// A device's certificate that allows server authentication only.
    #[must_use]
    pub fn wrong_usage(&self, id: &str) -> Leaf {
        self.by_hand(&[id], |tbs| tbs.usage = HandUsage::Server)
    }

    /// A device's certificate that says nothing of its use; it is for every use, and so is right.
    #[must_use]
    pub fn without_usage(&self, id: &str) -> Leaf {
        self.by_hand(&[id], |tbs| tbs.usage = HandUsage::Absent)
    }

    /// A device's certificate with the CA bit.
    #[must_use]
    pub fn with_ca_bit(&self, id: &str) -> Leaf {
        self.by_hand(&[id], |tbs| tbs.is_ca = true)
    }

    /// A certificate from the devices CA with any text as its common name, such as `+` or `a/b`.
    #[must_use]
    pub fn odd_name(&self, common_name: &str) -> Leaf {
        self.by_hand(&[common_name], |_| {})
    }

    /// A certificate from the devices CA with two common names.
    #[must_use]
    pub fn two_names(&self, first: &str, second: &str) -> Leaf {
        self.by_hand(&[first, second], |_| {})
    }

    /// A certificate from the devices CA whose common name is empty.
    #[must_use]
    pub fn empty_name(&self) -> Leaf {
        self.by_hand(&[""], |_| {})
    }

    /// A certificate from the devices CA without a common name.
    #[must_use]
    pub fn no_name(&self) -> Leaf {
        self.by_hand(&[], |_| {})
    }

    /// What `openssl x509 -req` without `-extfile` makes: X.509 v1.
    #[must_use]
    pub fn version_one(&self, id: &str) -> Leaf {
        self.by_hand(&[id], |tbs| tbs.version_one = true)
    }

    /// A device's certificate that its own key signed.
    #[must_use]
    pub fn self_signed(&self, id: &str) -> Leaf {
        let key = FileKey::generate(KeyKind::P256).expect("a key can be made");
        let names = [id];
        let mut tbs = self.tbs(&names, key.spki_der());
        tbs.algorithm = key.algorithm();
        let tbs = tbs.encode();
        let signature = key.sign(&tbs).expect("a key in memory signs");
        let der = x509::assemble(&tbs, key.algorithm(), &signature);
        Leaf::alone(der, key, device(id))
    }

    /// A device's certificate of which one bit of the signed bytes was changed.
    #[must_use]
    pub fn tampered(&self, id: &str) -> Leaf {
        let leaf = self.device(id);
        let mut der = leaf.der().to_vec();
        let key = FileKey::from_pkcs8_der(leaf.key_pkcs8().expose()).expect("our own key is read back");
        let wanted = leaf.certificate().serial();
        let serial = wanted.as_bytes();
        let at = der.windows(serial.len()).position(|bytes| bytes == serial).expect("it carries its serial");
        der[at + serial.len() - 1] ^= 1;
        Leaf::new(&self.devices, der, key, device(id))
    }

    /// Builds with the real builder but asks neither `ca` nor the lint.
    fn unlinted(
        &self,
        authority: &Authority,
        profile: Profile,
        common_name: String,
        principal: Option<Principal>,
    ) -> Leaf {
        let key = FileKey::generate(KeyKind::P256).expect("a key can be made");
        let issuer = authority.issuer();
        let draft = Draft {
            serial: self.serial(),
            issuer: Some(issuer.certificate.clone()),
            common_name,
            template: issuer.template.clone(),
            spki_der: key.spki_der().to_vec(),
            not_before: self.now.wall.minus(ca::BACKDATED),
            not_after: self.now.wall.plus(LEAF_LIFETIME),
            profile,
            signature: authority.key().algorithm(),
            crl_url: issuer.crl_url.clone(),
            aia_url: issuer.aia_url.clone(),
        };
        let tbs = x509::build_tbs(&draft).expect("the draft can be built");
        let der = x509::assemble(&tbs, draft.signature, &authority.sign(&tbs));
        Leaf::new(authority, der, key, principal)
    }

    /// A leaf by hand from the devices CA, right but for what `spoil` does to it.
    fn by_hand(&self, common_names: &[&str], spoil: impl FnOnce(&mut HandTbs<'_>)) -> Leaf {
        let key = FileKey::generate(KeyKind::P256).expect("a key can be made");
        let ca = self.devices.certificate();
        let mut tbs = self.tbs(common_names, key.spki_der());
        tbs.issuer = Some(ca.subject_der());
        tbs.issuer_key_id = ca.ski().map(|id| id.to_vec());
        tbs.algorithm = self.devices.key().algorithm();
        spoil(&mut tbs);
        let (tbs, algorithm) = (tbs.encode(), self.devices.key().algorithm());
        let der = x509::assemble(&tbs, algorithm, &self.devices.sign(&tbs));
        let principal = match common_names {
            [one] => device(one),
            _ => None,
        };
        Leaf::new(&self.devices, der, key, principal)
    }

    fn tbs<'a>(&self, common_names: &'a [&'a str], spki_der: &'a [u8]) -> HandTbs<'a> {
        let uri = match common_names {
            [one] => device(one).map(|device| format!("urn:bailiwick:device:{}", device.name)),
            _ => None,
        };
        HandTbs {
            version_one: false,
            serial: self.serial(),
            issuer: None,
            issuer_key_id: None,
            not_before: whole(self.now.wall.minus(ca::BACKDATED)),
            not_after: whole(self.now.wall.plus(LEAF_LIFETIME)),
            common_names,
            spki_der,
            usage: HandUsage::Client,
            is_ca: false,
            uri,
            algorithm: self.devices.key().algorithm(),
        }
    }
}

fn whole(wall: Wall) -> Wall {
    Wall::from_secs(wall.secs())
}

/// The device that a common name speaks for, if it speaks for one.
fn device(common_name: &str) -> Option<Principal> {
    let name = DeviceId::parse(common_name).ok()?;
    Some(Principal { kind: PrincipalKind::Device, name })
}
