//! What the parser accepts, and what each mistake is answered with.

#[cfg(test)]
mod tests {
    use policy::{PolicyError, Source, Table};
    use proptest::prelude::*;
    use types::{Blame, DeviceId};

    fn compile(text: &str) -> Result<Table, Vec<PolicyError>> {
        Table::compile(&[Source { file: "fleet.acl", text }], 3)
    }

    fn faults(text: &str) -> Vec<String> {
        compile(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    /// The one fault of one line, as `column: message | hint`.
    fn fault(line: &str) -> String {
        let text = format!("user admin\n{line}\n");
        let errors = compile(&text).map(|table| table.rules()).unwrap_err();
        let [error] = errors.as_slice() else { panic!("{line}: {errors:?}") };
        assert_eq!((error.file.as_str(), error.line), ("fleet.acl", 2), "{line}");
        format!("{}: {} | {}", error.column, error.message, error.hint.as_deref().unwrap_or("-"))
    }

    #[test]
    fn every_form_of_a_rule_is_accepted() {
        let table = compile(
            "# comment\n\
             \n   # indented comment\n\
             pattern read devices/%u/commands/#\n\
             pattern write devices/%c/telemetry/#\n\
             pattern readwrite %p/%f/%u\n\
             pattern deny secret/#\n\
             pattern open/+\n\
             user backend-service\n\
             topic read assets/#\n\
             topic  write   assets/+/commands/#  \n\
             topic plain/topic\n\
             topic deny a topic with blanks/x\n\
             topic read $SYS/#\n\
             topic read 100%/load\n\
             user Second.User\n\
             topic #\n\
             pattern write dev%u/%p-%f/x%c-y\n",
        )
        .unwrap();
        assert_eq!((table.rules(), table.epoch()), (13, 3));
        for (name, borne) in
            [("backend-service", true), ("BACKEND-SERVICE", true), ("second.user", true), ("third", false)]
        {
            assert_eq!(table.bears_name(&DeviceId::parse(name).unwrap()), borne, "{name}");
        }
    }

    #[test]
    fn tabs_crlf_a_byte_order_mark_and_a_missing_last_newline_are_taken_as_they_are_meant() {
        let table =
            compile("\u{feff}user\tadmin\r\n\ttopic\tread\ta/#\t\r\n\r\npattern write\tb/%u").unwrap();
        assert_eq!(table.rules(), 2);
    }

    #[test]
    fn an_empty_file_is_a_table_that_denies_everything() {
        for text in ["", "\n", "# nothing\n", "\r\n \t \r\n", "user admin\n"] {
            assert_eq!(compile(text).unwrap().rules(), 0);
        }
        assert_eq!((Table::deny_all().rules(), Table::deny_all().epoch()), (0, 0));
    }

    #[test]
    fn every_mistake_names_its_column_and_what_to_write() {
        for (line, expected) in [
            // Words of other brokers.
            (
                "pattern publish a/%u",
                "9: unknown access \"publish\" | Mosquitto's word is write: pattern write a/%u",
            ),
            (
                "topic publish a/b",
                "7: unknown access \"publish\" | Mosquitto's word is write: topic write a/b",
            ),
            (
                "pattern subscribe a/%u",
                "9: unknown access \"subscribe\" | Mosquitto's word is read: pattern read a/%u",
            ),
            (
                "topic pubsub a",
                "7: unknown access \"pubsub\" | Mosquitto's word is readwrite: topic readwrite a",
            ),
            ("topic Read a", "7: unknown access \"Read\" | Mosquitto's word is read: topic read a"),
            (
                "pattern deny subscribe a/#",
                "14: deny has no direction, found \"subscribe\" | pattern deny a/# denies both directions",
            ),
            (
                "pattern deny publish a/#",
                "14: deny has no direction, found \"publish\" | pattern deny a/# denies both directions",
            ),
            (
                "topic read write a",
                "12: two access words, \"read\" and \"write\" | topic write a; both are readwrite",
            ),
            (
                "topic allowed a",
                "7: unknown access \"allowed\" | access is one of read, write, readwrite, deny; a topic with \
                 blanks needs one of them before it",
            ),
            // Keywords.
            ("Topic read a", "1: unknown keyword \"Topic\" | keywords are lower case: topic"),
            ("topics read a", "1: unknown keyword \"topics\" | the keyword is topic, followed by a blank"),
            ("user: admin", "1: unknown keyword \"user:\" | the keyword is user, followed by a blank"),
            (
                "allow a/b",
                "1: unknown keyword \"allow\" | a line begins with user, topic, pattern, or # for a comment; \
                 for example: pattern write devices/%u/telemetry/#",
            ),
            (
                "acl_file /etc/acl",
                "1: unknown keyword \"acl_file\" | a line begins with user, topic, pattern, or # for a comment",
            ),
            ("// note", "1: unknown keyword \"//\" | a comment begins with #"),
            ("; note", "1: unknown keyword \";\" | a comment begins with #"),
            // What is missing.
            ("topic", "6: topic without a topic | topic read TOPIC"),
            ("  pattern  ", "10: pattern without a topic | pattern read TOPIC"),
            (
                "topic read",
                "11: topic read without a topic | topic read TOPIC; a topic of this name is topic readwrite read",
            ),
            (
                "pattern publish",
                "16: pattern publish without a topic | pattern write TOPIC; a topic of this name is pattern \
                 readwrite publish",
            ),
            ("user", "5: user without a name | user NAME"),
            // Comments after values.
            ("topic read a/b # note", "16: text after the topic | a comment stands on a line of its own"),
            ("topic a/b # note", "11: text after the topic | a comment stands on a line of its own"),
            ("topic a/b #note", "11: text after the topic | a comment stands on a line of its own"),
            ("topic read a/b\t#note", "16: text after the topic | a comment stands on a line of its own"),
            ("user bob # note", "10: text after the name | a comment stands on a line of its own"),
            // Names.
            (
                "user a b",
                "7: user name: device id \"a b\": space at byte 1; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes) | -",
            ),
            (
                "user %u",
                "6: user name: device id \"%u\": '%' at byte 0; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes) | a \
                 rule for every principal is a pattern",
            ),
            (
                "user dev-+",
                "10: user name: device id \"dev-+\": '+' at byte 4; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes) \
                 | a name has no wildcards; use pattern",
            ),
            // Wildcards.
            (
                "topic read a/#/b",
                "14: filter \"a/#/b\": misplaced wildcard at byte 2; '+' fills a level, '#' ends the filter | # \
                 is the last level; for one level in the middle write +",
            ),
            (
                "pattern read a/%u+/b",
                "18: filter \"a/%u+/b\": misplaced wildcard at byte 4; '+' fills a level, '#' ends the filter | \
                 a wildcard fills its level: a/+/b, a/#",
            ),
            (
                "topic read a/b#",
                "15: filter \"a/b#\": misplaced wildcard at byte 3; '+' fills a level, '#' ends the filter | a \
                 wildcard fills its level: a/+/b, a/#",
            ),
            // Placeholders.
            (
                "pattern read a/%d/b",
                "16: unknown placeholder %d | the name is %u; placeholders are %u or %c (name), %p (project), \
                 %f (fleet)",
            ),
            ("pattern read a/%U", "16: unknown placeholder %U | placeholders are lower case: %u"),
            (
                "pattern read a/%%u",
                "16: unknown placeholder %% | placeholders are %u or %c (name), %p (project), %f (fleet)",
            ),
            (
                "pattern read a/%x",
                "16: unknown placeholder %x | placeholders are %u or %c (name), %p (project), %f (fleet)",
            ),
            (
                "pattern read a/%username/b",
                "16: %username is no placeholder | the placeholder is %u, without more letters",
            ),
            (
                "pattern read a/%clientid",
                "16: %clientid is no placeholder | the placeholder is %c, without more letters",
            ),
            (
                "pattern read a/${username}/b",
                "16: a placeholder of another broker | placeholders are %u or %c (name), %p (project), %f \
                 (fleet)",
            ),
            (
                "pattern read a/x${{clientid}}",
                "17: a placeholder of another broker | placeholders are %u or %c (name), %p (project), %f \
                 (fleet)",
            ),
            (
                "topic read devices/%u/#",
                "20: placeholder %u in a topic rule, which takes it literally | placeholders belong to \
                 patterns: write pattern",
            ),
            // The rest.
            ("topic read \"a/b\"", "12: a quoted topic | topics are written without quotes"),
            (
                "topic read $share/g/a",
                "12: a shared subscription in a rule | a rule names the filter alone; it holds for its shared \
                 subscriptions too",
            ),
            (
                "topic read a\tb",
                "13: topic \"a\\tb\": control character at byte 1 | a topic has no tab; is this a second value?",
            ),
            ("topic read ä/\u{1}", "14: topic \"\\u{e4}/\\u{1}\": control character at byte 3 | -"),
        ] {
            assert_eq!(fault(line), expected, "{line}");
        }
    }

    #[test]
    fn a_topic_before_any_user_is_for_anonymous_clients_whom_there_are_none() {
        let errors = compile("topic read a\nuser admin\ntopic read b\n").unwrap_err();
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!(error.to_string(), "fleet.acl:1:1: topic before any user, which is for anonymous clients");
        assert_eq!(
            error.hint.as_deref(),
            Some("nobody is anonymous here: put it below a \"user NAME\" line, or write pattern")
        );
        assert_eq!((error.code(), error.blame()), ("policy.malformed", Blame::Operator));
    }

    #[test]
    fn a_user_does_not_reach_into_the_next_file() {
        let sources = [
            Source { file: "a.acl", text: "user admin\ntopic read a\n" },
            Source { file: "b.acl", text: "topic read b\n" },
        ];
        let errors = Table::compile(&sources, 1).unwrap_err();
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["b.acl:1:1: topic before any user, which is for anonymous clients"]
        );
    }

    #[test]
    fn all_faults_of_all_files_are_reported_together_and_in_order() {
        let sources = [
            Source { file: "a.acl", text: "pattern read\nuser a b\ntopic read x\n\npattern read %x\n" },
            Source { file: "b.acl", text: "pattern write ok/%u\nnonsense\n" },
        ];
        let errors = Table::compile(&sources, 1).unwrap_err();
        let places: Vec<_> = errors.iter().map(|e| (e.file.as_str(), e.line, e.column)).collect();
        assert_eq!(places, [("a.acl", 1, 13), ("a.acl", 2, 7), ("a.acl", 5, 14), ("b.acl", 2, 1)]);
    }

    #[test]
    fn a_file_that_is_no_rule_file_is_given_up_after_a_hundred_faults() {
        assert_eq!(faults(&"\u{0}garbage\n".repeat(1_000)).len(), 100);
    }

    #[test]
    fn columns_count_characters_and_texts_are_clipped() {
        assert!(fault("topic read größe/#/x").starts_with("18: "));
        let long = fault(&format!("topic read {}/#/x", "a".repeat(300)));
        assert!(long.len() < 300, "{long}");
    }

    #[test]
    fn a_rule_deeper_than_any_topic_is_refused() {
        let deep = fault(&format!("topic read {}a", "a/".repeat(40)));
        assert!(deep.starts_with("12: topic \"a/a/a/"), "{deep}");
        assert!(deep.ends_with("has 41 levels; limit 32 | -"), "{deep}");
        assert!(compile(&format!("pattern read {}a", "a/".repeat(31))).is_ok());
    }

    /// Lines that are nearly right, so that the interesting branches are reached.
    fn nearly() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "user",
            "topic",
            "pattern",
            "read",
            "write",
            "readwrite",
            "deny",
            "publish",
            "subscribe",
            "#",
            "+",
            "%",
            "%u",
            "%c",
            "%p",
            "%f",
            "%%",
            "%ü",
            "${",
            "a",
            "a/b",
            "ä/ö",
            "/",
            "//",
            "$SYS",
            "$share/",
            " ",
            "\t",
            "\r",
            "\n",
            "\u{0}",
            "\u{feff}",
            "\"",
            "'",
            "admin",
            "%user",
            "%u+",
            "#/",
        ]);
        prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
    }

    fn holds(text: &str) -> Result<(), TestCaseError> {
        match compile(text) {
            Ok(table) => prop_assert!(table.rules() <= text.split('\n').count()),
            Err(errors) => {
                prop_assert!(!errors.is_empty() && errors.len() <= 100);
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                for error in errors {
                    let line = text.split('\n').nth(error.line as usize - 1);
                    let width = line.map(|line| line.chars().count());
                    prop_assert!(width.is_some_and(|width| error.column as usize <= width + 1), "{}", error);
                    prop_assert!(!error.message.contains(['\n', '\r', '\0']), "{:?}", error.message);
                }
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_text_makes_the_parser_panic_and_every_fault_lies_in_its_line(text in nearly()) {
            holds(&text)?;
        }

        #[test]
        fn no_characters_make_the_parser_panic(text in "(?s).{0,200}") {
            holds(&text)?;
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            holds(&String::from_utf8_lossy(&bytes))?;
        }
    }
}
