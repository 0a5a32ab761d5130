//! A bundle that is read says the same when it is written again; one that is refused shows nothing of its secret.

use agent::Bundle;

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Bundle::parse(text) {
        Ok(bundle) => {
            let token = bundle.token().expose_str().unwrap();
            assert!(token.starts_with(&format!("bw1.{}.", bundle.token_id())) && token.len() == 57);
            assert!(!bundle.host().is_empty() && bundle.port() != 0 && !bundle.pins().is_empty());
            let pins: Vec<String> = bundle.pins().iter().map(|pin| format!("sha256:{pin}")).collect();
            let written = format!("{token}@[{}]:{}#{}", bundle.host(), bundle.port(), pins.join(","));
            let again = Bundle::parse(&written).unwrap();
            assert_eq!(
                (again.token_id(), again.host(), again.port(), again.pins()),
                (bundle.token_id(), bundle.host(), bundle.port(), bundle.pins())
            );
            assert_eq!(again.token().expose(), bundle.token().expose());
            let secret = &token[31..];
            assert!(!format!("{bundle:?}").contains(secret) || bundle.host().contains(secret));
        }
        Err(error) => {
            // A run of the alphabet that is as long as a secret must not come back in the error's text.
            let shown = error.to_string();
            let alphabet = |ch: char| ch.is_ascii_alphanumeric();
            let longest = shown.split(|ch| !alphabet(ch)).map(str::len).max().unwrap_or(0);
            assert!(longest < 26, "{shown}");
        }
    }
}
