use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{NewToken, Store, StoreError, TokenAnswer, TokenRefusal};
use trust::{CertState, Revocation};
use types::{DeviceId, Epoch, SpkiHash};
use x509::CrlReason;

use crate::place::*;

const DEVICES: [&str; 2] = ["alpha", "Beta"];
const KEYS: u8 = 4;

/// One act of an operator, a device, the issuer, or fate.
#[derive(Clone, Debug)]
enum Act {
    Token { device: usize, replace: bool },
    Intend { token: usize, key: u8 },
    Record { intent: usize, salt: u8 },
    Confirm { intent: usize },
    RevokeToken { token: usize },
    RevokeCertificate { intent: usize },
    RevokeDevice { device: usize },
    Suspend { device: usize },
    Restore { device: usize },
    Deny { device: usize },
    Allow { device: usize },
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let (device, token, intent) = (0..DEVICES.len(), 0..5_usize, 0..5_usize);
    prop_oneof![
        6 => (device.clone(), prop::bool::weighted(0.3)).prop_map(|(device, replace)| Act::Token { device, replace }),
        8 => (token.clone(), 0..KEYS).prop_map(|(token, key)| Act::Intend { token, key }),
        8 => (intent.clone(), 0..2_u8).prop_map(|(intent, salt)| Act::Record { intent, salt }),
        7 => intent.clone().prop_map(|intent| Act::Confirm { intent }),
        2 => token.prop_map(|token| Act::RevokeToken { token }),
        2 => intent.prop_map(|intent| Act::RevokeCertificate { intent }),
        1 => device.clone().prop_map(|device| Act::RevokeDevice { device }),
        2 => device.clone().prop_map(|device| Act::Suspend { device }),
        2 => device.clone().prop_map(|device| Act::Restore { device }),
        1 => device.clone().prop_map(|device| Act::Deny { device }),
        1 => device.prop_map(|device| Act::Allow { device }),
        1 => Just(Act::Reopen),
    ]
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Device {
    suspended: bool,
    revoked: bool,
    denied: bool,
}

impl Device {
    fn usable(self) -> bool {
        !(self.suspended || self.revoked || self.denied)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Unused,
    Bound(u8),
    Spent,
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    device: usize,
    replace: bool,
    life: Life,
}

/// What became of an intent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Open,
    Dead,
    Unconfirmed,
    Active,
    Revoked,
}

#[derive(Clone, Copy, Debug)]
struct Intent {
    token: usize,
    device: usize,
    fate: Fate,
    recorded: Option<u8>,
}

/// The rules in the plainest words: lists, and loops over all of them.
#[derive(Default)]
struct Model {
    devices: [Device; DEVICES.len()],
    tokens: Vec<Token>,
    intents: Vec<Intent>,
    keys: BTreeMap<u8, usize>,
    epoch: u64,
}

type Verdict = Result<(), &'static str>;

impl Model {
    fn live(&self, device: usize) -> bool {
        // A suspended device's certificates are on hold and count for nothing; it is refused anyway.
        let active = |intent: &&Intent| intent.device == device && intent.fate == Fate::Active;
        !self.devices[device].suspended && self.intents.iter().any(|intent| active(&intent))
    }

    fn token(&mut self, device: usize, replace: bool) -> Verdict {
        if !self.devices[device].usable() {
            return Err("store.device_denied");
        }
        if !replace && self.live(device) {
            return Err("store.needs_replace");
        }
        self.tokens.push(Token { device, replace, life: Life::Unused });
        Ok(())
    }

    fn intend(&mut self, token: usize, key: u8) -> Verdict {
        let Token { device, replace, life } = self.tokens[token];
        if !self.devices[device].usable() {
            return Err("store.device_denied");
        }
        if life != Life::Unused || (!replace && self.live(device)) {
            return Err("store.token_lost");
        }
        if self.keys.get(&key).is_some_and(|owner| *owner != device) {
            return Err("store.key_shared");
        }
        self.keys.insert(key, device);
        self.tokens[token].life = Life::Bound(key);
        self.intents.push(Intent { token, device, fate: Fate::Open, recorded: None });
        Ok(())
    }

    fn record(&mut self, at: usize, salt: u8) -> Verdict {
        let Intent { device, fate, recorded, .. } = self.intents[at];
        let verdict = if !self.devices[device].usable() {
            Err("store.device_denied")
        } else if matches!(fate, Fate::Dead | Fate::Revoked) {
            Err("store.token_lost")
        } else {
            Ok(())
        };
        match recorded {
            Some(before) if before != salt => return Err("store.already_recorded"),
            Some(_) => return verdict,
            None => {}
        }
        self.intents[at].recorded = Some(salt);
        if fate == Fate::Dead {
            self.intents[at].fate = Fate::Revoked;
            self.epoch += 1;
        } else {
            self.intents[at].fate = Fate::Unconfirmed;
            self.epoch += u64::from(self.devices[device].suspended);
        }
        verdict
    }

    fn confirm(&mut self, at: usize) -> Verdict {
        let Intent { device, fate, token, recorded } = self.intents[at];
        if recorded.is_none() {
            return Err("store.unknown_certificate");
        }
        if !self.devices[device].usable() {
            return Err("store.device_denied");
        }
        match fate {
            Fate::Active => return Ok(()),
            Fate::Unconfirmed => {}
            _ => return Err("store.certificate_unusable"),
        }
        self.intents[at].fate = Fate::Active;
        self.tokens[token].life = Life::Spent;
        let replace = self.tokens[token].replace;
        let mut lost = false;
        for other in (0..self.intents.len()).filter(|other| *other != at) {
            let Intent { device: owner, fate, token: by, .. } = self.intents[other];
            let rival = fate == Fate::Unconfirmed && !self.tokens[by].replace;
            let falls = rival || (replace && matches!(fate, Fate::Active | Fate::Unconfirmed));
            if owner == device && falls {
                self.intents[other].fate = Fate::Revoked;
                lost = true;
            }
        }
        for other in (0..self.tokens.len()).filter(|other| *other != token) {
            if self.tokens[other].device == device && (replace || !self.tokens[other].replace) {
                self.kill(other);
            }
        }
        self.epoch += u64::from(lost);
        Ok(())
    }

    /// A token that is not spent dies, and with it what nobody has signed yet.
    fn kill(&mut self, token: usize) {
        if self.tokens[token].life == Life::Spent {
            return;
        }
        self.tokens[token].life = Life::Dead;
        for intent in self.intents.iter_mut().filter(|intent| intent.token == token) {
            if intent.fate == Fate::Open {
                intent.fate = Fate::Dead;
            }
        }
    }

    fn revoke_token(&mut self, token: usize) -> Verdict {
        match self.tokens[token].life {
            Life::Spent => return Err("store.token_spent"),
            Life::Dead => return Ok(()),
            _ => self.kill(token),
        }
        for intent in self.intents.iter_mut().filter(|intent| intent.token == token) {
            if intent.fate == Fate::Unconfirmed {
                intent.fate = Fate::Revoked;
                self.epoch += 1;
            }
        }
        Ok(())
    }

    fn revoke_certificate(&mut self, at: usize) -> Verdict {
        let Intent { fate, token, recorded, .. } = self.intents[at];
        match (recorded, fate) {
            (None, _) => return Err("store.unknown_certificate"),
            (_, Fate::Revoked) => return Err("store.already_revoked"),
            (_, Fate::Unconfirmed) => self.kill(token),
            _ => {}
        }
        self.intents[at].fate = Fate::Revoked;
        self.epoch += 1;
        Ok(())
    }

    fn revoke_device(&mut self, device: usize) -> Verdict {
        if self.devices[device].revoked {
            return Err("store.already_revoked");
        }
        self.devices[device] = Device { suspended: false, revoked: true, denied: true };
        for token in
            (0..self.tokens.len()).filter(|token| self.tokens[*token].device == device).collect::<Vec<_>>()
        {
            self.kill(token);
        }
        for intent in self.intents.iter_mut().filter(|intent| intent.device == device) {
            if intent.recorded.is_some() {
                intent.fate = Fate::Revoked;
            }
        }
        self.epoch += 1;
        Ok(())
    }

    fn suspend(&mut self, device: usize, on: bool) -> Verdict {
        match self.devices[device] {
            Device { revoked: true, .. } => Err("store.already_revoked"),
            Device { suspended, .. } if suspended == on && on => Ok(()),
            Device { suspended, .. } if suspended == on => Err("store.not_suspended"),
            _ => {
                self.devices[device].suspended = on;
                self.epoch += 1;
                Ok(())
            }
        }
    }

    fn deny(&mut self, device: usize, on: bool) -> Verdict {
        if self.devices[device].revoked && !on {
            return Err("store.already_revoked");
        }
        self.epoch += u64::from(self.devices[device].denied != on);
        self.devices[device].denied = on;
        Ok(())
    }

    fn refusal(&self, token: usize, key: u8) -> Option<TokenRefusal> {
        let Token { device, replace, life } = self.tokens[token];
        match life {
            Life::Dead => Some(TokenRefusal::Revoked),
            Life::Spent => Some(TokenRefusal::Spent),
            Life::Bound(owner) if owner != key => Some(TokenRefusal::OtherKey),
            _ if !self.devices[device].usable() => Some(TokenRefusal::DeviceDenied),
            Life::Unused if !replace && self.live(device) => Some(TokenRefusal::NeedsReplace),
            _ => None,
        }
    }
}

/// The store beside its model.
struct Pair {
    place: Place,
    store: Option<Store>,
    model: Model,
}

fn name(device: usize) -> DeviceId {
    id(DEVICES[device])
}

fn token_id(token: usize) -> String {
    format!("t{token}")
}

fn spki(n: u8) -> SpkiHash {
    key(n)
}

/// The serial of the intent with this index.
fn serial(at: usize) -> u64 {
    at as u64 + 1
}

impl Pair {
    async fn begin() -> Self {
        let place = Place::fresh();
        let store = place.open();
        for device in DEVICES {
            add(&store, device).await;
        }
        Self { place, store: Some(store), model: Model::default() }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    async fn perform(&mut self, act: &Act) {
        let (tokens, intents) = (self.model.tokens.len(), self.model.intents.len());
        // The latest are picked most, so that stories unfold.
        let pick = |at: usize, len: usize| (len > 0).then(|| len - 1 - at % len);
        let (expected, answer) = match *act {
            Act::Token { device, replace } => {
                let new = NewToken { device: name(device), ..new_token(&token_id(tokens), "x", replace) };
                let answer = self.store().token_create(new, "ada", now(1)).await.map(|_| ());
                (self.model.token(device, replace), answer)
            }
            Act::Intend { token, key } => {
                let Some(token) = pick(token, tokens) else { return };
                let device = DEVICES[self.model.tokens[token].device];
                // Serials are taken only by intents that stand, so the next one is free.
                let new = new_intent(Some(&token_id(token)), device, serial(intents), spki(key));
                let answer = self.store().record_intent(new, now(2)).await.map(|_| ());
                (self.model.intend(token, key), answer)
            }
            Act::Record { intent, salt } => {
                let Some(at) = pick(intent, intents) else { return };
                let Some(receipt) = self.receipt(at).await else { return };
                let der = der(serial(at), salt);
                let answer = self.store().record_certificate(receipt, &der, now(3)).await;
                (self.model.record(at, salt), answer)
            }
            Act::Confirm { intent } => {
                let Some(at) = pick(intent, intents) else { return };
                let salt = self.model.intents[at].recorded.unwrap_or(0);
                let der_hash = hash_of(&der(serial(at), salt));
                let before = self.store().view().epoch();
                let answer = self.store().confirm(der_hash, now(4)).await.map(|confirmed| {
                    assert_eq!(confirmed.replaced.is_empty(), confirmed.epoch == before);
                });
                (self.model.confirm(at), answer)
            }
            Act::RevokeToken { token } => {
                let Some(token) = pick(token, tokens) else { return };
                let answer = self.store().token_revoke(&token_id(token), "ada", now(5)).await.map(|_| ());
                (self.model.revoke_token(token), answer)
            }
            Act::RevokeCertificate { intent } => {
                let Some(at) = pick(intent, intents) else { return };
                let reason = CrlReason::KeyCompromise;
                let answer = self.store().revoke_certificate(cert(serial(at)), reason, "ada", now(5)).await;
                (self.model.revoke_certificate(at), answer.map(|_| ()))
            }
            Act::RevokeDevice { device } => {
                let reason = CrlReason::Unspecified;
                let answer = self.store().revoke_device(&name(device), reason, "ada", now(5)).await;
                (self.model.revoke_device(device), answer.map(|_| ()))
            }
            Act::Suspend { device } => {
                let answer = self.store().suspend_device(&name(device), "ada", now(5)).await;
                (self.model.suspend(device, true), answer.map(|_| ()))
            }
            Act::Restore { device } => {
                let answer = self.store().restore_device(&name(device), "ada", now(5)).await;
                (self.model.suspend(device, false), answer.map(|_| ()))
            }
            Act::Deny { device } => {
                let answer = self.store().deny(&name(device), "ada", now(5)).await;
                (self.model.deny(device, true), answer.map(|_| ()))
            }
            Act::Allow { device } => {
                let answer = self.store().allow(&name(device), "ada", now(5)).await;
                (self.model.deny(device, false), answer.map(|_| ()))
            }
            Act::Reopen => {
                self.reopen();
                return;
            }
        };
        assert_eq!(answer.as_ref().map_err(StoreError::code).copied(), expected, "{act:?}: {answer:?}");
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.place.open());
    }

    /// The receipt of an intent, as a restarted issuer gets it. An issuer that was overtaken by a
    /// revocation still holds its own; here such an intent is left alone.
    async fn receipt(&self, at: usize) -> Option<store::Receipt> {
        let unfinished = self.store().unfinished_intents().await.unwrap();
        let mut of_intent = unfinished.into_iter().filter(|intent| intent.receipt.cert() == cert(serial(at)));
        if let Some(intent) = of_intent.next() {
            return Some(intent.receipt);
        }
        let token = self.model.intents[at].token;
        let Life::Bound(key) = self.model.tokens[token].life else { return None };
        match check(self.store(), &token_id(token), spki(key)).await {
            TokenAnswer::Bound { intent, .. } => Some(intent.receipt),
            _ => None,
        }
    }

    /// Every fact that can be asked for is what the model says.
    async fn compare(&self) {
        let (store, model) = (self.store(), &self.model);
        let view = store.view();
        assert_eq!(view.epoch(), Epoch { incarnation: 0, counter: model.epoch });
        for (device, is) in model.devices.iter().enumerate() {
            assert_eq!(view.is_denied(&name(device)), is.denied);
        }
        for (at, intent) in model.intents.iter().enumerate() {
            let held = model.devices[intent.device].suspended;
            let (state, revocation) = match (intent.fate, held) {
                (Fate::Open | Fate::Dead, _) => (None, None),
                (Fate::Revoked, _) => (Some(CertState::Revoked), Some(Revocation::Revoked)),
                (_, true) => (Some(CertState::Suspended), Some(Revocation::Suspended)),
                (Fate::Unconfirmed, false) => (Some(CertState::Unconfirmed), None),
                (Fate::Active, false) => (Some(CertState::Active), None),
            };
            assert_eq!(view.is_revoked(&cert(serial(at))), revocation, "{at}: {intent:?}");
            let der_hash = hash_of(&der(serial(at), intent.recorded.unwrap_or(0)));
            let entry = store.admission(der_hash).await.unwrap();
            assert_eq!(entry.map(|entry| entry.state), state, "{at}: {intent:?}");
        }
        for token in 0..model.tokens.len() {
            for key in 0..KEYS {
                let refused = refusal(store, &token_id(token), spki(key)).await;
                assert_eq!(refused, model.refusal(token, key), "{token} {key}");
            }
        }
        let open = model.intents.iter().filter(|intent| intent.fate == Fate::Open).count();
        assert_eq!(store.unfinished_intents().await.unwrap().len(), open);
        self.hold_invariants().await;
    }

    async fn hold_invariants(&self) {
        for device in DEVICES {
            let row = self.store().device(&id(device)).await.unwrap().unwrap();
            let usable = |state| matches!(state, CertState::Unconfirmed | CertState::Active);
            let active = row.certificates.iter().filter(|row| row.state == CertState::Active).count();
            assert!(active <= 1, "{device} has {active} confirmed certificates");
            // Invariant 3 of DESIGN.md: a token yields at most one live key.
            for token in 0..self.model.tokens.len() {
                let of_token =
                    self.model.intents.iter().enumerate().filter(|(_, intent)| intent.token == token);
                let certs: Vec<_> = of_token.map(|(at, _)| cert(serial(at))).collect();
                let live =
                    row.certificates.iter().filter(|row| usable(row.state) && certs.contains(&row.cert));
                assert!(live.count() <= 1, "token {token}");
            }
        }
    }
}

fn run(acts: &[Act]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pair = Pair::begin().await;
        let mut epoch = Epoch::default();
        for act in acts {
            pair.perform(act).await;
            let reached = pair.store().view().epoch();
            assert!(reached >= epoch, "the epoch fell from {epoch} to {reached}");
            epoch = reached;
            pair.compare().await;
        }
        // The view that grew change by change says what one rebuilt from the tables says.
        pair.reopen();
        pair.compare().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_view_equals_one_rebuilt_from_scratch(acts in prop::collection::vec(act(), 1..60)) {
        run(&acts);
    }
}

#[test]
fn the_straight_path_and_its_detours_agree_with_the_model() {
    run(&[
        Act::Token { device: 0, replace: false },
        Act::Token { device: 0, replace: false },
        Act::Intend { token: 0, key: 0 },
        Act::Intend { token: 0, key: 1 },
        Act::Intend { token: 1, key: 1 },
        Act::Record { intent: 0, salt: 0 },
        Act::Record { intent: 0, salt: 1 },
        Act::Reopen,
        Act::Record { intent: 1, salt: 1 },
        Act::Confirm { intent: 1 },
        Act::Confirm { intent: 0 },
        Act::Token { device: 0, replace: true },
        Act::Intend { token: 2, key: 2 },
        Act::Suspend { device: 0 },
        Act::Record { intent: 2, salt: 0 },
        Act::Confirm { intent: 2 },
        Act::Restore { device: 0 },
        Act::Confirm { intent: 2 },
        Act::Deny { device: 0 },
        Act::RevokeDevice { device: 0 },
        Act::Allow { device: 0 },
    ]);
}
