//! A configuration is whole and usable, or every mistake in it is named with its place.

use server::{Config, ServerError};

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, "fuzz.toml") {
        Ok(config) => {
            assert_eq!(Config::parse(text, "fuzz.toml").unwrap(), config);
            config.replay_table().unwrap();
            assert_ne!(config.listeners.mqtt.port(), 1883);
            assert!(!config.policy.files.is_empty(), "no rules must not mean no file");
        }
        Err(ServerError::Config(mistakes)) => {
            assert!(!mistakes.is_empty());
            let lines = text.split('\n').count();
            for mistake in mistakes {
                let mut place = mistake.strip_prefix("fuzz.toml:").unwrap().splitn(3, ':');
                let mut number = || place.next().unwrap().parse::<usize>().unwrap();
                let (line, column) = (number(), number());
                assert!((1..=lines).contains(&line) && column >= 1, "{mistake}");
            }
        }
        Err(other) => panic!("a text can only be wrong in itself: {other}"),
    }
}
