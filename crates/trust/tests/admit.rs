//! Flow B's decision: each refusal with its reason and its text, and each border.

#[cfg(test)]
mod common;

#[cfg(test)]
mod tests {
    use trust::{
        Admission, Anchor, CertState, Change, DeniedSet, IdentitySource, LedgerEntry, Refusal, Revocation,
        RevokedSet, TrustError, VerifiedPeer, View, admit, precheck, recheck,
    };
    use types::{Blame, Epoch, IssuerId, Now, PrincipalKind, Reason, Wall};
    use x509::{ChainAnchors, Usage, VerifiedChain};

    use super::common::{BEGIN, Ca, END, JULY, Leaf, at, entry, id, other_serial};

    const DEVICE: &[PrincipalKind] = &[PrincipalKind::Device];

    fn epoch(counter: u64) -> Epoch {
        Epoch { incarnation: 0, counter }
    }

    fn view_of(anchors: Vec<Anchor>) -> View {
        View::new(epoch(41), anchors, RevokedSet::empty(), DeniedSet::empty()).unwrap()
    }

    /// A devices CA, one leaf for pump-7, its ledger entry, and a view that believes them.
    struct World {
        root: Ca,
        ca: Ca,
        chain: VerifiedChain,
        entry: LedgerEntry,
        view: View,
    }

    fn world() -> World {
        world_of(&Leaf::default())
    }

    fn world_of(leaf: &Leaf<'_>) -> World {
        let root = Ca::root();
        let ca = root.below("Devices CA", END + 1_000);
        let chain = ca.chain(leaf);
        let entry = entry(&chain, PrincipalKind::Device, "pump-7");
        let view = view_of(vec![ca.anchor("devices", DEVICE)]);
        World { root, ca, chain, entry, view }
    }

    impl World {
        fn admit(&self, now: Now) -> Result<VerifiedPeer, Refusal> {
            admit(&self.view, &self.chain, Some(&self.entry), now)
        }

        fn change(&mut self, change: Change) {
            let epoch = self.view.epoch().next();
            self.view = self.view.with(Change { epoch, ..change });
        }

        /// The refusal, which `precheck` must give too where it needs no ledger.
        fn refused(&self, now: Now) -> (Reason, String) {
            let refusal = self.admit(now).unwrap_err();
            assert_eq!(precheck(&self.view, &self.chain, now), Err(refusal.clone()));
            (refusal.reason, refusal.detail)
        }

        /// The refusal that only the ledger leads to.
        fn refused_by_ledger(&self, now: Now) -> (Reason, String) {
            assert_eq!(precheck(&self.view, &self.chain, now), Ok(()));
            let refusal = self.admit(now).unwrap_err();
            (refusal.reason, refusal.detail)
        }
    }

    #[test]
    fn a_known_device_in_date_is_admitted_with_all_its_evidence() {
        let world = world();
        let peer = world.admit(at(JULY)).unwrap();
        assert_eq!(peer.principal().to_string(), "device \"pump-7\"");
        assert_eq!((peer.project().as_str(), peer.fleet()), ("default", Some("north")));
        assert_eq!(peer.cert(), world.chain.cert_ref());
        assert_eq!(peer.cert().to_string(), "0x1f3a");
        assert_eq!(peer.der_hash(), world.chain.leaf().der_hash());
        assert_eq!(peer.spki_hash(), world.chain.leaf().spki_hash());
        assert_eq!((peer.issuer_label(), peer.anchor()), ("devices", world.chain.issuer()));
        assert_eq!(peer.subject_text(), "CN=pump-7");
        assert_eq!(peer.trust_epoch(), epoch(41));
        assert_eq!(peer.session_end(), Wall::from_secs(END));
        assert!(!peer.needs_confirmation());
        assert_eq!(recheck(&world.view, &peer, at(JULY)), Ok(()));
    }

    #[test]
    fn the_registrys_spelling_of_the_name_is_the_one_that_counts() {
        let mut world = world();
        world.entry.principal.name = id("Pump-7");
        assert_eq!(world.admit(at(JULY)).unwrap().principal().name.as_str(), "Pump-7");
    }

    #[test]
    fn an_unconfirmed_certificate_is_admitted_and_to_be_confirmed() {
        let mut world = world();
        world.entry.state = CertState::Unconfirmed;
        assert!(world.admit(at(JULY)).unwrap().needs_confirmation());
    }

    #[test]
    fn a_certificate_that_is_not_in_the_ledger_is_refused() {
        let world = world();
        let refusal = admit(&world.view, &world.chain, None, at(JULY)).unwrap_err();
        let hash = world.chain.leaf().der_hash();
        assert_eq!((refusal.reason, refusal.code()), (Reason::NotInLedger, "trust.not_in_ledger"));
        assert_eq!(
            refusal.detail,
            format!(
                "certificate 0x1f3a for \"pump-7\" from \"devices\" is not in the ledger; its fingerprint is {hash}"
            )
        );
        assert_eq!((refusal.to_string(), refusal.blame()), (refusal.detail.clone(), Blame::Peer));
    }

    #[test]
    fn just_in_time_admits_nobody_who_is_not_in_the_ledger() {
        let world = world();
        let anchor = Anchor { admission: Admission::JustInTime, ..world.ca.anchor("vendor", DEVICE) };
        let view = view_of(vec![anchor]);
        assert_eq!(admit(&view, &world.chain, None, at(JULY)).unwrap_err().reason, Reason::NotInLedger);
        assert!(admit(&view, &world.chain, Some(&world.entry), at(JULY)).is_ok());
    }

    #[test]
    fn the_ledgers_entry_of_another_certificate_admits_nobody() {
        let mut world = world();
        let honest = world.entry.clone();
        world.entry.der_hash.0[0] ^= 1;
        assert_eq!(world.refused_by_ledger(at(JULY)).0, Reason::NotInLedger);
        world.entry = LedgerEntry { cert: other_serial(honest.cert), ..honest };
        assert_eq!(world.refused_by_ledger(at(JULY)).0, Reason::NotInLedger);
    }

    #[test]
    fn not_after_exactly_now_is_over_and_a_millisecond_before_is_not() {
        let world = world();
        let peer = world.admit(at(JULY)).unwrap();
        let before = Now { wall: Wall::from_secs(END).minus(std::time::Duration::from_millis(1)), ..at(0) };
        assert!(world.admit(before).is_ok());
        assert_eq!(recheck(&world.view, &peer, before), Ok(()));
        let text = "certificate 0x1f3a for \"pump-7\" expired 2026-08-01T00:00:00Z, now 2026-08-01T00:00:00Z";
        assert_eq!(world.refused(at(END)), (Reason::Expired, text.to_owned()));
        let refusal = recheck(&world.view, &peer, at(END)).unwrap_err();
        assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::Expired, text));
    }

    #[test]
    fn the_text_of_an_expired_certificate_is_that_of_the_style_guide() {
        let later = Now { wall: Wall::from_secs(END + 2 * 86_400 + 9 * 3600 + 12 * 60 + 44), ..at(0) };
        assert_eq!(
            world().refused(later).1,
            "certificate 0x1f3a for \"pump-7\" expired 2026-08-01T00:00:00Z, now 2026-08-03T09:12:44Z"
        );
    }

    #[test]
    fn a_certificate_begins_with_its_not_before() {
        let world = world_of(&Leaf { begin: JULY, ..Leaf::default() });
        assert!(world.admit(at(JULY)).is_ok());
        assert_eq!(
            world.refused(at(JULY - 1)),
            (
                Reason::NotYetValid,
                "certificate 0x1f3a for \"pump-7\" is not valid before 2026-07-01T00:00:00Z, now \
                 2026-06-30T23:59:59Z"
                    .to_owned()
            )
        );
    }

    #[test]
    fn an_expired_issuer_ends_its_leaves_first() {
        let root = Ca::root();
        let ca = root.below("Devices CA", JULY + 60);
        let chain = ca.chain(&Leaf::default());
        let view = view_of(vec![ca.anchor("devices", DEVICE)]);
        let entry = entry(&chain, PrincipalKind::Device, "pump-7");
        let peer = admit(&view, &chain, Some(&entry), at(JULY + 59)).unwrap();
        assert_eq!(peer.session_end(), Wall::from_secs(JULY + 60));
        let refusal = admit(&view, &chain, Some(&entry), at(JULY + 60)).unwrap_err();
        assert_eq!(refusal.reason, Reason::IssuerInvalid);
        assert_eq!(
            refusal.detail,
            "certificate 0x1f3a for \"pump-7\": a CA of its chain expired 2026-07-01T00:01:00Z, now \
             2026-07-01T00:01:00Z"
        );
        assert_eq!(recheck(&view, &peer, at(JULY + 60)).unwrap_err().reason, Reason::Expired);
    }

    #[test]
    fn a_superseded_certificate_is_usable_until_its_overlap_ends() {
        let mut world = world();
        world.entry.state = CertState::Superseded { until: Wall::from_secs(JULY + 10) };
        let peer = world.admit(at(JULY + 9)).unwrap();
        assert_eq!(peer.session_end(), Wall::from_secs(JULY + 10));
        assert_eq!(recheck(&world.view, &peer, at(JULY + 9)), Ok(()));
        let text = "certificate 0x1f3a for \"pump-7\" was replaced, and its overlap ended \
                    2026-07-01T00:00:10Z, now 2026-07-01T00:00:10Z";
        assert_eq!(world.refused_by_ledger(at(JULY + 10)), (Reason::Superseded, text.to_owned()));
        let refusal = recheck(&world.view, &peer, at(JULY + 10)).unwrap_err();
        assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::Superseded, text));
    }

    #[test]
    fn an_overlap_that_outlives_the_certificate_does_not_prolong_it() {
        let mut world = world();
        world.entry.state = CertState::Superseded { until: Wall::from_secs(END + 10) };
        let peer = world.admit(at(JULY)).unwrap();
        assert_eq!(peer.session_end(), Wall::from_secs(END));
        assert_eq!(recheck(&world.view, &peer, at(END)).unwrap_err().reason, Reason::Expired);
    }

    #[test]
    fn a_certificate_that_is_retired_while_its_session_lives_ends_with_its_overlap() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        world.change(Change { retire: vec![(peer.cert(), Wall::from_secs(JULY + 10))], ..Change::default() });
        assert_eq!(world.view.session_end(&peer), Wall::from_secs(JULY + 10));
        assert_eq!(world.view.retires_at(&peer.cert()), Some(Wall::from_secs(JULY + 10)));
        assert_eq!(recheck(&world.view, &peer, at(JULY + 9)), Ok(()));
        assert_eq!(recheck(&world.view, &peer, at(JULY + 10)).unwrap_err().reason, Reason::Superseded);
        // The ledger row that was read before the change is overruled by the view.
        assert_eq!(world.admit(at(JULY + 9)).unwrap().session_end(), Wall::from_secs(JULY + 10));
        assert_eq!(world.refused(at(JULY + 10)).0, Reason::Superseded);
    }

    #[test]
    fn revocation_reaches_the_handshake_and_the_live_session() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        world.change(Change { revoke: vec![(peer.cert(), Revocation::Revoked)], ..Change::default() });
        let text = "certificate 0x1f3a for \"pump-7\" was revoked, epoch 42";
        assert_eq!(world.refused(at(JULY)), (Reason::Revoked, text.to_owned()));
        let refusal = recheck(&world.view, &peer, at(JULY)).unwrap_err();
        assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::Revoked, text));
        assert_eq!(world.view.is_revoked(&peer.cert()), Some(Revocation::Revoked));
        assert_eq!(world.view.is_revoked(&other_serial(peer.cert())), None);
    }

    #[test]
    fn a_suspended_certificate_comes_back_when_it_is_restored() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        world.change(Change { revoke: vec![(peer.cert(), Revocation::Suspended)], ..Change::default() });
        let text = "certificate 0x1f3a for \"pump-7\" is suspended, epoch 42";
        assert_eq!(world.refused(at(JULY)), (Reason::Suspended, text.to_owned()));
        assert_eq!(recheck(&world.view, &peer, at(JULY)).unwrap_err().reason, Reason::Suspended);
        world.change(Change { restore: vec![peer.cert()], ..Change::default() });
        assert_eq!(recheck(&world.view, &peer, at(JULY)), Ok(()));
        assert!(world.admit(at(JULY)).is_ok());
    }

    #[test]
    fn a_denied_name_is_refused_in_every_case_until_it_is_allowed() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        world.change(Change { deny: vec![id("PUMP-7")], ..Change::default() });
        let text = "certificate 0x1f3a for \"pump-7\": the name is on the deny-list, epoch 42";
        assert_eq!(world.refused(at(JULY)), (Reason::Denied, text.to_owned()));
        assert_eq!(recheck(&world.view, &peer, at(JULY)).unwrap_err().reason, Reason::Denied);
        assert!(world.view.is_denied(&id("pump-7")) && !world.view.is_denied(&id("pump-8")));
        world.change(Change { allow: vec![id("pump-7")], ..Change::default() });
        assert!(world.admit(at(JULY)).is_ok());
    }

    #[test]
    fn a_compromised_sub_ca_takes_everything_below_it_along() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        let issuer = world.chain.issuer();
        world.change(Change { revoke_issuers: vec![issuer], ..Change::default() });
        let text =
            format!("certificate 0x1f3a for \"pump-7\": its issuer \"devices\" ({issuer}) was revoked");
        assert_eq!(world.refused(at(JULY)), (Reason::IssuerInvalid, text.clone()));
        let refusal = recheck(&world.view, &peer, at(JULY)).unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.detail.clone(), refusal.code()),
            (Reason::IssuerInvalid, text, "trust.issuer_invalid")
        );
        assert!(world.view.is_issuer_revoked(issuer));
    }

    #[test]
    fn a_compromised_ca_between_leaf_and_anchor_is_found_too() {
        let world = world();
        let anchors = ChainAnchors::new([&world.root.certificate]).unwrap();
        let leaf = world.chain.leaf().der();
        let july = Wall::from_secs(JULY);
        let between = world.ca.certificate.der();
        let chain = x509::verify_chain(&anchors, leaf, &[between], july, Usage::ClientAuth).unwrap();
        assert_eq!(chain.issuers().len(), 2);
        let entry = entry(&chain, PrincipalKind::Device, "pump-7");
        let view = view_of(vec![world.root.anchor("vendor", DEVICE)]);
        let peer = admit(&view, &chain, Some(&entry), at(JULY)).unwrap();
        assert_eq!((peer.issuer_label(), peer.cert().issuer), ("vendor", chain.issuer()));
        let revoke_issuers = vec![chain.issuer()];
        let view = view.with(Change { revoke_issuers, epoch: epoch(42), ..Change::default() });
        assert_eq!(precheck(&view, &chain, at(JULY)).unwrap_err().reason, Reason::IssuerInvalid);
        let refusal = recheck(&view, &peer, at(JULY)).unwrap_err();
        assert!(refusal.detail.contains("its issuer \"a CA of its chain\""), "{refusal}");
    }

    #[test]
    fn an_anchor_that_is_gone_ends_its_sessions() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        let other = world.root.below("Other", END).anchor("other", DEVICE);
        world.change(Change { anchors: Some(vec![other]), ..Change::default() });
        assert_eq!(
            world.refused(at(JULY)),
            (
                Reason::UnknownIssuer,
                "certificate 0x1f3a: its issuer \"CN=Devices CA\" is not trusted".to_owned()
            )
        );
        assert_eq!(recheck(&world.view, &peer, at(JULY)).unwrap_err().reason, Reason::UnknownIssuer);
        let services = world.ca.anchor("devices", &[PrincipalKind::Service]);
        world.change(Change { anchors: Some(vec![services]), ..Change::default() });
        assert_eq!(
            recheck(&world.view, &peer, at(JULY)).unwrap_err().detail,
            "certificate 0x1f3a for \"pump-7\": its issuer \"devices\" is no longer trusted for a device \
             \"pump-7\""
        );
    }

    #[test]
    fn an_anchor_that_signs_no_clients_admits_nobody() {
        let world = world();
        let view = view_of(vec![world.ca.anchor("servers", &[])]);
        assert!(view.client_anchors().is_empty());
        let refusal = admit(&view, &world.chain, Some(&world.entry), at(JULY)).unwrap_err();
        assert_eq!(refusal.reason, Reason::WrongAnchor);
        assert_eq!(refusal.detail, "certificate 0x1f3a: its issuer \"servers\" signs no clients");
    }

    #[test]
    fn the_same_name_from_another_anchor_is_refused() {
        let mut world = world();
        world.entry.anchor = IssuerId([7; 16]);
        let (reason, detail) = world.refused_by_ledger(at(JULY));
        assert_eq!(reason, Reason::WrongAnchor);
        let anchor = world.chain.issuer();
        assert_eq!(
            detail,
            format!(
                "certificate 0x1f3a for \"pump-7\" came from \"devices\" ({anchor}), the registry has device \
                 \"pump-7\" under 07070707070707070707070707070707"
            )
        );
    }

    #[test]
    fn a_kind_that_the_anchor_does_not_sign_is_refused() {
        let mut world = world();
        world.entry.principal.kind = PrincipalKind::Operator;
        assert_eq!(
            world.refused_by_ledger(at(JULY)),
            (
                Reason::WrongAnchor,
                "certificate 0x1f3a for \"pump-7\": \"devices\" signs no operator".to_owned()
            )
        );
    }

    #[test]
    fn a_certificate_that_calls_itself_another_kind_is_refused() {
        let world = world_of(&Leaf { uris: &["urn:bailiwick:operator:pump-7"], ..Leaf::default() });
        assert_eq!(
            world.refused_by_ledger(at(JULY)),
            (
                Reason::WrongAnchor,
                "certificate 0x1f3a for \"pump-7\": its SAN URI says operator, the registry device \"pump-7\""
                    .to_owned()
            )
        );
    }

    #[test]
    fn the_ledgers_name_and_the_certificates_must_agree() {
        let mut world = world();
        world.entry.principal.name = id("pump-8");
        assert_eq!(
            world.refused_by_ledger(at(JULY)),
            (
                Reason::BadName,
                "certificate 0x1f3a for \"pump-7\": the ledger has it for device \"pump-8\"".to_owned()
            )
        );
    }

    #[test]
    fn the_ledgers_own_revocation_counts_before_the_view_has_it() {
        let mut world = world();
        for (state, reason, word) in [
            (CertState::Revoked, Reason::Revoked, "revoked"),
            (CertState::Suspended, Reason::Suspended, "suspended"),
        ] {
            world.entry.state = state;
            let text = format!("certificate 0x1f3a for \"pump-7\" is {word} in the ledger");
            assert_eq!(world.refused_by_ledger(at(JULY)), (reason, text));
            assert_eq!(state.as_str(), word);
        }
    }

    #[test]
    fn a_clock_below_the_floor_admits_nobody_but_ends_no_session() {
        let mut world = world();
        let peer = world.admit(at(JULY)).unwrap();
        world.view = world.view.with_time_floor(Wall::from_secs(JULY));
        assert!(world.admit(at(JULY)).is_ok());
        assert_eq!(
            world.refused(at(JULY - 1)),
            (
                Reason::ClockUnsound,
                "the clock says 2026-06-30T23:59:59Z, which is before 2026-07-01T00:00:00Z".to_owned()
            )
        );
        assert_eq!(recheck(&world.view, &peer, at(JULY - 1)), Ok(()));
        assert_eq!(Refusal { reason: Reason::ClockUnsound, detail: String::new() }.blame(), Blame::Us);
    }

    fn name_refusal(leaf: &Leaf<'_>, identity: IdentitySource) -> Result<String, String> {
        let ca = Ca::root().below("Devices CA", END);
        let chain = ca.chain(leaf);
        let view = view_of(vec![Anchor { identity, ..ca.anchor("devices", DEVICE) }]);
        let entry = entry(&chain, PrincipalKind::Device, "pump-7");
        match admit(&view, &chain, Some(&entry), at(JULY)) {
            Ok(peer) => Ok(peer.principal().name.as_str().to_owned()),
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::BadName, "{refusal}");
                Err(refusal.detail)
            }
        }
    }

    #[test]
    fn exactly_one_name_where_the_anchor_says() {
        use IdentitySource::{CommonName, SanUri, SerialNumber};
        let plain = Leaf::default;
        let uri = "urn:bailiwick:device:pump-7";
        for leaf in [
            Leaf { uris: &[uri], ..plain() },
            Leaf { uris: &["https://vendor.example/x", uri], ..plain() },
            Leaf { uris: &["urn:bailiwick:device:PUMP-7"], ..plain() },
            Leaf { serial_numbers: &["SN 1"], ..plain() },
        ] {
            assert_eq!(name_refusal(&leaf, CommonName), Ok("pump-7".to_owned()));
        }
        let number = Leaf { common_names: &["Thing", "More"], serial_numbers: &["pump-7"], ..plain() };
        assert_eq!(name_refusal(&number, SerialNumber), Ok("pump-7".to_owned()));
        let san = Leaf { common_names: &[], uris: &[uri], ..plain() };
        assert_eq!(name_refusal(&san, SanUri), Ok("pump-7".to_owned()));

        let refusals: &[(Leaf<'_>, IdentitySource, &str)] = &[
            (
                Leaf { common_names: &[], ..plain() },
                CommonName,
                "it carries no common name; exactly one is needed",
            ),
            (
                Leaf { common_names: &["pump-7", "pump-8"], ..plain() },
                CommonName,
                "it carries 2 names as common name, \"pump-7\" and \"pump-8\"; exactly one is needed",
            ),
            (
                Leaf { common_names: &["pump-7", "pump-7"], ..plain() },
                CommonName,
                "it carries 2 names as common name, \"pump-7\" and \"pump-7\"; exactly one is needed",
            ),
            (plain(), SerialNumber, "it carries no serialNumber; exactly one is needed"),
            (plain(), SanUri, "it carries no SAN URI; exactly one is needed"),
            (
                Leaf { uris: &["urn:bailiwick:device:pump-8"], ..plain() },
                CommonName,
                "its common name says \"pump-7\" and its SAN URI \"pump-8\"",
            ),
            (
                Leaf { uris: &["urn:bailiwick:robot:pump-7"], ..plain() },
                CommonName,
                "SAN URI \"urn:bailiwick:robot:pump-7\" is not urn:bailiwick:device|service|operator:NAME",
            ),
            (
                Leaf { common_names: &["pump 7"], ..plain() },
                CommonName,
                "common name: device id \"pump 7\": space at byte 4; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes)",
            ),
            (
                Leaf { common_names: &["#"], ..plain() },
                CommonName,
                "common name: device id \"#\": '#' at byte 0; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes)",
            ),
        ];
        for (leaf, source, text) in refusals {
            assert_eq!(name_refusal(leaf, *source), Err(format!("certificate 0x1f3a: {text}")));
        }
    }

    #[test]
    fn a_view_takes_no_anchor_that_is_no_ca_and_none_with_a_wrong_id() {
        let world = world();
        let made = |anchors: Vec<Anchor>| {
            View::new(epoch(1), anchors, RevokedSet::empty(), DeniedSet::empty()).map(|_| ()).unwrap_err()
        };
        let leaf = world.chain.leaf().clone();
        let no_ca =
            Anchor { id: leaf.issuer_id_as_ca(), certificate: leaf, ..world.ca.anchor("leaf", DEVICE) };
        let error = made(vec![no_ca.clone()]);
        assert_eq!(error, TrustError::NotACa { label: "leaf".to_owned() });
        assert_eq!((error.code(), error.blame()), ("trust.anchor_not_a_ca", Blame::Operator));
        let id = IssuerId([1; 16]);
        let found = world.chain.issuer();
        let wrong = Anchor { id, ..world.ca.anchor("devices", DEVICE) };
        assert_eq!(made(vec![wrong]), TrustError::WrongId { label: "devices".to_owned(), id, found });
        let two = vec![world.ca.anchor("a", DEVICE), world.ca.anchor("b", &[PrincipalKind::Service])];
        assert_eq!(
            made(two).to_string(),
            format!("anchor \"b\": its key {found} is already that of anchor \"a\", which says otherwise")
        );
        // The same key with the same meaning is a renewed CA certificate.
        view_of(vec![world.ca.anchor("a", DEVICE), world.ca.anchor("a", DEVICE)]);

        // A change to anchors that make no view leaves nobody trusted.
        let change = || Change { epoch: epoch(42), anchors: Some(vec![no_ca.clone()]), ..Change::default() };
        assert!(world.view.checked_with(change()).is_err());
        let view = world.view.with(change());
        assert_eq!(precheck(&view, &world.chain, at(JULY)).unwrap_err().reason, Reason::UnknownIssuer);
    }

    #[test]
    fn a_change_makes_a_new_view_and_leaves_the_old_one_as_it_was() {
        let world = world();
        let cert = world.chain.cert_ref();
        let change = Change {
            epoch: epoch(42),
            revoke: vec![(cert, Revocation::Revoked)],
            deny: vec![id("x")],
            ..Change::default()
        };
        let after = world.view.with(change);
        assert_eq!((world.view.epoch(), after.epoch()), (epoch(41), epoch(42)));
        assert_eq!((world.view.is_revoked(&cert), world.view.revoked_len()), (None, 0));
        assert_eq!((after.is_revoked(&cert), after.revoked_len()), (Some(Revocation::Revoked), 1));
        assert_eq!(after.anchors().len(), 1);
        assert_eq!(after.anchor(cert.issuer).unwrap().label, "devices");
    }

    #[test]
    fn a_merge_off_thread_keeps_what_was_revoked_in_the_meantime() {
        let world = world();
        let cert = world.chain.cert_ref();
        let many: Vec<_> = (0..2_000_u64)
            .map(|serial| {
                let serial = types::Serial::from_der_integer(&(serial + 1).to_be_bytes()).unwrap();
                (types::CertRef { serial, issuer: IssuerId([1; 16]) }, Revocation::Revoked)
            })
            .collect();
        let grown = world.view.with(Change { revoke: many, epoch: epoch(42), ..Change::default() });
        assert!(grown.needs_merge());
        let merged = grown.merged();
        let late = grown.with(Change {
            revoke: vec![(cert, Revocation::Revoked)],
            deny: vec![id("x")],
            epoch: epoch(43),
            ..Change::default()
        });
        let view = late.rebased(&merged);
        assert!(!view.needs_merge());
        assert_eq!((view.epoch(), view.revoked_len()), (epoch(43), 2_001));
        assert_eq!(view.is_revoked(&cert), Some(Revocation::Revoked));
        assert!(view.is_denied(&id("x")));
        assert_eq!(precheck(&view, &world.chain, at(JULY)).unwrap_err().reason, Reason::Revoked);
    }

    #[test]
    fn the_dates_of_the_fixture_are_what_the_texts_say() {
        assert_eq!(Wall::from_secs(BEGIN).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(Wall::from_secs(JULY).to_string(), "2026-07-01T00:00:00Z");
        assert_eq!(Wall::from_secs(END).to_string(), "2026-08-01T00:00:00Z");
    }
}
