//! The decisions for real peers: what a permit carries, what a denial says, what each costs.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use policy::{
        LAYOUT_DEVICES, RuleRef, Source, Table, VerifiedPeer, decide_publish, decide_receive,
        decide_subscribe, explain,
    };
    use trust::{
        Admission, Anchor, CertState, DeniedSet, IdentitySource, LedgerEntry, RevokedSet, View, admit,
    };
    use types::{
        Action, Blame, DeviceId, Epoch, Mono, Now, Principal, PrincipalKind, ProjectId, Serial, Topic,
        TopicFilter, Wall,
    };
    use x509::{Certificate, ChainAnchors, Draft, Profile, SignatureAlgorithm, SubjectTemplate, Usage};

    const NOW: i64 = 1_782_864_000;

    fn id(name: &str) -> DeviceId {
        DeviceId::parse(name).unwrap()
    }

    fn topic(text: &str) -> Topic<'_> {
        Topic::parse(text).unwrap()
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn compile(text: &str) -> Table {
        Table::compile(&[Source { file: "fleet.acl", text }], 7).unwrap()
    }

    /// A peer that went through the whole admission, from a CA of the moment.
    fn peer_in(kind: PrincipalKind, name: &str, fleet: Option<&str>) -> Arc<VerifiedPeer> {
        let keys = [(); 2].map(|()| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap());
        let spki = |key: &EcdsaKeyPair| {
            let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
            der.as_ref().to_vec()
        };
        let made = |issuer: Option<&Certificate>, spki_der, common_name: &str, profile| {
            let draft = Draft {
                serial: Serial::from_random([7; 20]),
                issuer: issuer.cloned(),
                common_name: common_name.to_owned(),
                template: SubjectTemplate::default(),
                spki_der,
                not_before: Wall::from_secs(NOW - 60),
                not_after: Wall::from_secs(NOW + 60),
                profile,
                signature: SignatureAlgorithm::EcdsaP256Sha256,
                crl_url: None,
                aia_url: None,
            };
            let tbs = x509::build_tbs(&draft).unwrap();
            let signature = keys[0].sign(&SystemRandom::new(), &tbs).unwrap();
            let der = x509::assemble(&tbs, SignatureAlgorithm::EcdsaP256Sha256, signature.as_ref());
            Certificate::parse_der(&der).unwrap()
        };
        let ca = made(None, spki(&keys[0]), "Root", Profile::Root);
        let profile = match kind {
            PrincipalKind::Device => Profile::Device { id: id(name) },
            PrincipalKind::Service => Profile::Service { name: id(name) },
            PrincipalKind::Operator => Profile::Operator { name: id(name) },
        };
        let leaf = made(Some(&ca), spki(&keys[1]), name, profile);
        let now = Now { mono: Mono(0), wall: Wall::from_secs(NOW) };
        let anchors = ChainAnchors::new([&ca]).unwrap();
        let chain = x509::verify_chain(&anchors, leaf.der(), &[], now.wall, Usage::ClientAuth).unwrap();
        let anchor = Anchor {
            id: ca.issuer_id_as_ca(),
            label: "root".to_owned(),
            certificate: ca,
            kinds: vec![kind],
            admission: Admission::Registered,
            identity: IdentitySource::CommonName,
        };
        let entry = LedgerEntry {
            der_hash: leaf.der_hash(),
            cert: chain.cert_ref(),
            principal: Principal { kind, name: id(name) },
            anchor: anchor.id,
            project: ProjectId::parse("default").unwrap(),
            fleet: fleet.map(str::to_owned),
            state: CertState::Active,
        };
        let view =
            View::new(Epoch::default(), vec![anchor], RevokedSet::empty(), DeniedSet::empty()).unwrap();
        Arc::new(admit(&view, &chain, Some(&entry), now).unwrap())
    }

    fn device(name: &str) -> Arc<VerifiedPeer> {
        peer_in(PrincipalKind::Device, name, None)
    }

    #[test]
    fn a_permit_carries_the_peer_the_topic_the_rule_and_the_epoch() {
        let (table, peer) = (compile(LAYOUT_DEVICES), device("pump-7"));
        let permit = decide_publish(&table, &peer, topic("devices/pump-7/status")).unwrap();
        assert!(Arc::ptr_eq(permit.peer(), &peer));
        assert_eq!((permit.topic().as_str(), permit.policy_epoch()), ("devices/pump-7/status", 7));
        assert_eq!(table.rule(permit.rule()).to_string(), "fleet.acl:7 \"pattern write devices/%u/status\"");
        let permit = decide_subscribe(&table, &peer, &filter("devices/pump-7/commands/#")).unwrap();
        assert_eq!(permit.filter().as_str(), "devices/pump-7/commands/#");
        let permit = decide_receive(&table, &peer, topic("devices/pump-7/commands/interval")).unwrap();
        assert_eq!(table.rule(permit.rule()).place(), "fleet.acl:9");
    }

    #[test]
    fn no_rule_denies() {
        let (table, peer) = (compile(LAYOUT_DEVICES), device("pump-7"));
        let denial = decide_publish(&table, &peer, topic("devices/pump-8/status")).unwrap_err();
        assert_eq!((denial.action, denial.topic.as_str()), (Action::Publish, "devices/pump-8/status"));
        assert_eq!((denial.rule.clone(), denial.rule.place()), (RuleRef::NoRule, "no rule".to_owned()));
        assert_eq!((denial.code(), denial.blame()), ("policy.denied", Blame::Peer));
        assert_eq!(
            denial.to_string(),
            "device \"pump-7\" may not publish to \"devices/pump-8/status\": no rule permits it"
        );
        assert!(decide_receive(&Table::deny_all(), &peer, topic("a")).is_err());
        let denial = decide_subscribe(&Table::deny_all(), &peer, &filter("#")).unwrap_err();
        assert_eq!(denial.to_string(), "device \"pump-7\" may not subscribe to \"#\": no rule permits it");
    }

    #[test]
    fn a_deny_rule_overrides_any_grant_and_is_named() {
        let table = compile(
            "user backend\ntopic read #\ntopic readwrite plant/#\npattern deny plant/+/secret\npattern read plant/#\n",
        );
        let peer = peer_in(PrincipalKind::Service, "backend", None);
        assert!(decide_receive(&table, &peer, topic("plant/a/open")).is_ok());
        let denial = decide_receive(&table, &peer, topic("plant/a/secret")).unwrap_err();
        assert_eq!(
            denial.to_string(),
            "service \"backend\" may not receive from \"plant/a/secret\": denied by fleet.acl:4 \"pattern deny \
             plant/+/secret\""
        );
        assert!(decide_publish(&table, &peer, topic("plant/a/secret")).is_err());
        assert!(decide_subscribe(&table, &peer, &filter("plant/+/secret")).is_err());
        // The filter reaches past what is denied: subscribing is allowed, each delivery is asked.
        assert!(decide_subscribe(&table, &peer, &filter("plant/#")).is_ok());
    }

    #[test]
    fn a_filter_is_covered_by_one_rule_or_not_at_all() {
        let table = compile("user b\ntopic read a/x\ntopic read a/y\ntopic read c/+/e\n");
        let peer = peer_in(PrincipalKind::Service, "b", None);
        for (text, permitted) in [
            ("a/x", true),
            ("a/y", true),
            ("a/+", false),
            ("a/#", false),
            ("c/+/e", true),
            ("c/d/e", true),
            ("c/#", false),
            ("c/d/#", false),
            ("c/d/+", false),
            ("+/d/e", false),
            ("#", false),
        ] {
            assert_eq!(decide_subscribe(&table, &peer, &filter(text)).is_ok(), permitted, "{text}");
        }
    }

    #[test]
    fn a_grant_of_everything_does_not_reach_topics_that_begin_with_a_dollar() {
        let table = compile("user b\ntopic read #\ntopic read +/x\ntopic write $X/#\n");
        let peer = peer_in(PrincipalKind::Service, "b", None);
        assert!(decide_receive(&table, &peer, topic("a/b/c")).is_ok());
        assert!(decide_subscribe(&table, &peer, &filter("#")).is_ok());
        for text in ["$SYS/x", "$SYS", "$X/y"] {
            assert!(decide_receive(&table, &peer, topic(text)).is_err(), "{text}");
        }
        assert!(decide_subscribe(&table, &peer, &filter("$SYS/#")).is_err());
        assert!(decide_publish(&table, &peer, topic("$X/y")).is_ok());
    }

    #[test]
    fn a_device_under_the_name_of_a_rule_gets_nothing_from_it() {
        let table = compile("user admin\ntopic readwrite #\n");
        assert!(decide_receive(&table, &device("admin"), topic("a")).is_err());
        assert!(decide_receive(&table, &device("Admin"), topic("a")).is_err());
        for kind in [PrincipalKind::Service, PrincipalKind::Operator] {
            assert!(decide_receive(&table, &peer_in(kind, "admin", None), topic("a")).is_ok());
            assert!(decide_receive(&table, &peer_in(kind, "ADMIN", None), topic("a")).is_ok());
            assert!(decide_receive(&table, &peer_in(kind, "admin2", None), topic("a")).is_err());
        }
    }

    #[test]
    fn placeholders_stand_for_the_name_the_project_and_the_fleet_of_the_registry() {
        let table = compile(
            "pattern write %p/%f/%u/x\npattern read cmd/%c\npattern write dev%u-in/y\npattern read %p-%f/z\n",
        );
        let peer = peer_in(PrincipalKind::Device, "pump-7", Some("north"));
        assert!(decide_publish(&table, &peer, topic("default/north/pump-7/x")).is_ok());
        assert!(decide_publish(&table, &peer, topic("default/south/pump-7/x")).is_err());
        assert!(decide_receive(&table, &peer, topic("cmd/pump-7")).is_ok());
        assert!(decide_publish(&table, &peer, topic("devpump-7-in/y")).is_ok());
        assert!(decide_publish(&table, &peer, topic("devpump-77-in/y")).is_err());
        assert!(decide_publish(&table, &peer, topic("devpump-7-i/y")).is_err());
        assert!(decide_receive(&table, &peer, topic("default-north/z")).is_ok());
        let without = device("pump-7");
        assert!(decide_publish(&table, &without, topic("default/north/pump-7/x")).is_err());
        assert!(decide_publish(&table, &without, topic("default//pump-7/x")).is_err());
        assert!(decide_receive(&table, &without, topic("default-/z")).is_err());
        assert!(decide_publish(&table, &without, topic("devpump-7-in/y")).is_ok());
    }

    #[test]
    fn a_fleet_that_looks_like_a_wildcard_is_one_literal_level() {
        let table = compile("pattern readwrite %f/#\npattern readwrite x/%f\n");
        for fleet in ["+", "#", "a/b", "$SYS"] {
            let peer = peer_in(PrincipalKind::Device, "pump-7", Some(fleet));
            for text in ["a/b", "a", "x/a", "x/a/b", "$SYS/x"] {
                assert!(decide_receive(&table, &peer, topic(text)).is_err(), "{fleet} {text}");
            }
            for text in ["+/#", "#", "x/+", "x/#", "$SYS/#"] {
                assert!(decide_subscribe(&table, &peer, &filter(text)).is_err(), "{fleet} {text}");
            }
        }
    }

    #[test]
    fn a_permitted_decision_allocates_nothing() {
        let mut text = LAYOUT_DEVICES.to_owned();
        text.push_str("pattern write dev%u/x\npattern write %p-%u/x\n");
        let (table, peer) = (compile(&text), device("pump-7"));
        let admin = peer_in(PrincipalKind::Operator, "Admin", None);
        let counted = allocation_counter::measure(|| {
            for _ in 0..10 {
                assert!(decide_publish(&table, &peer, topic("devices/pump-7/telemetry/environment")).is_ok());
                assert!(decide_publish(&table, &peer, topic("devpump-7/x")).is_ok());
                assert!(decide_publish(&table, &peer, topic("default-pump-7/x")).is_ok());
                assert!(decide_receive(&table, &peer, topic("devices/pump-7/commands/interval")).is_ok());
                assert!(decide_receive(&table, &admin, topic("devices/pump-7/status")).is_ok());
            }
        });
        assert_eq!(counted.count_total, 0);
    }

    #[test]
    fn ten_thousand_rules_of_others_change_no_decision() {
        let mut text = LAYOUT_DEVICES.to_owned();
        for n in 0..10_000 {
            text.push_str(&format!("user service-{n}\ntopic read devices/site-{n}/#\n"));
            text.push_str(&format!("pattern write site-{n}/x%u/data\npattern deny devices/gone-{n}/#\n"));
        }
        let (table, peer) = (compile(&text), device("pump-7"));
        assert_eq!(table.rules(), 5 + 30_000);
        assert!(decide_publish(&table, &peer, topic("devices/pump-7/status")).is_ok());
        assert!(decide_publish(&table, &peer, topic("site-9999/xpump-7/data")).is_ok());
        assert!(decide_publish(&table, &peer, topic("site-10000/xpump-7/data")).is_err());
        let service = peer_in(PrincipalKind::Service, "service-77", None);
        assert!(decide_subscribe(&table, &service, &filter("devices/site-77/#")).is_ok());
        assert!(decide_subscribe(&table, &service, &filter("devices/site-78/#")).is_err());
    }

    #[test]
    fn an_explanation_answers_as_the_broker_would() {
        let table = compile(
            "pattern write devices/%u/#\npattern deny devices/+/secret\nuser admin\ntopic read #\ntopic read devices/+/status\n",
        );
        let project = ProjectId::parse("default").unwrap();
        let ask = |kind, name, action, text: &str| {
            explain(&table, &Principal { kind, name: id(name) }, &project, None, action, text)
        };
        use PrincipalKind::{Device, Operator};
        for (found, expected) in [
            (
                ask(Device, "pump-7", Action::Publish, "devices/pump-7/x"),
                "permitted: device \"pump-7\" publish \"devices/pump-7/x\": by fleet.acl:1 \"pattern write \
                 devices/%u/#\"",
            ),
            (
                ask(Device, "pump-7", Action::Publish, "devices/pump-7/secret"),
                "denied: device \"pump-7\" publish \"devices/pump-7/secret\": by fleet.acl:2 \"pattern deny \
                 devices/+/secret\" (of 2 rules that match)",
            ),
            (
                ask(Operator, "admin", Action::Subscribe, "devices/+/status"),
                "permitted: operator \"admin\" subscribe \"devices/+/status\": by fleet.acl:4 \"topic read #\" \
                 (of 2 rules that match)",
            ),
            (
                ask(Operator, "admin", Action::Subscribe, "$share/g/devices/#"),
                "permitted: operator \"admin\" subscribe \"$share/g/devices/#\": by fleet.acl:4 \"topic read #\"",
            ),
            (
                ask(Device, "pump-7", Action::Subscribe, "#"),
                "denied: device \"pump-7\" subscribe \"#\": no read rule covers the whole filter",
            ),
            (
                ask(Device, "pump-7", Action::Receive, "x"),
                "denied: device \"pump-7\" receive \"x\": no rule permits it",
            ),
            (
                ask(Device, "pump-7", Action::Publish, "a/+"),
                "denied: device \"pump-7\" publish \"a/+\": topic \"a/+\": wildcard at byte 2; wildcards are for \
                 filters",
            ),
            (
                ask(Device, "pump-7", Action::Subscribe, "a/#/b"),
                "denied: device \"pump-7\" subscribe \"a/#/b\": filter \"a/#/b\": misplaced wildcard at byte 2; '+' \
                 fills a level, '#' ends the filter",
            ),
        ] {
            assert_eq!(found.to_string(), expected);
            assert_eq!(found.permitted, expected.starts_with("permitted"));
        }
    }
}
