use std::fmt;

use types::{Clipped, Secret, SpkiHash};

/// What a device is given for its first boot: `bw1.<id>.<secret>@host:port#sha256:<root SPKI>[,…]`.
pub struct Bundle {
    text: Secret,
    token: Secret,
    token_id: String,
    host: String,
    port: u16,
    pins: Vec<SpkiHash>,
}

/// Why a text is no bundle. Never repeats the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A part is missing.
    #[error("bundle without {what}; expected bw1.<id>.<secret>@host:port#sha256:<64 hex digits>")]
    Missing {
        /// The part.
        what: &'static str,
    },
    /// A version that this agent does not read.
    #[error("bundle version \"{shown}\"; this agent reads bw1")]
    Version {
        /// What stands there, clipped and escaped.
        shown: String,
    },
    /// The token's id or secret is not 26 characters of the alphabet.
    #[error("bundle: the token's {what} is not 26 of the characters 0-9 a-z without i l o u")]
    Token {
        /// `id` or `secret`.
        what: &'static str,
    },
    /// The port is no number from 1 to 65535.
    #[error("bundle: port \"{shown}\"; allowed 1 to 65535")]
    Port {
        /// What stands there, clipped and escaped.
        shown: String,
    },
    /// A pin that is not `sha256:` and 64 hexadecimal digits.
    #[error("bundle: pin {number} is not sha256: and 64 hexadecimal digits")]
    Pin {
        /// Which one, from 1.
        number: usize,
    },
}

const ALPHABET: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl Bundle {
    /// Takes a bundle apart; white space around it, and the case of its token, do not matter.
    ///
    /// # Errors
    /// The part that is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let missing = |what| BundleError::Missing { what };
        let (token, rest) = text.trim().split_once('@').ok_or(missing("@host:port"))?;
        let (server, pins) = rest.split_once('#').ok_or(missing("a pinned root (#sha256:…)"))?;
        let (host, port) = server.rsplit_once(':').ok_or(missing("a port"))?;
        let host = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(missing("a host"));
        }
        let port = match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => return Err(BundleError::Port { shown: Clipped(port).to_string() }),
        };
        let mut parts = token.split('.');
        match parts.next() {
            Some("bw1" | "BW1") => {}
            other => {
                // At most the place of the version is shown; a secret that stands there is cut short.
                let shown: String = other.unwrap_or_default().chars().take(4).collect();
                return Err(BundleError::Version { shown: Clipped(&shown).to_string() });
            }
        }
        let id = half(parts.next(), "id")?;
        let secret = half(parts.next(), "secret")?;
        if parts.next().is_some() {
            return Err(BundleError::Token { what: "secret" });
        }
        let token = Secret::new(format!("bw1.{id}.{secret}").into_bytes());
        let whole = Secret::new(text.trim().as_bytes().to_vec());
        Ok(Self { text: whole, token, token_id: id, host: host.to_owned(), port, pins: pins_of(pins)? })
    }

    /// The bundle as it was given, for the file that a second try reads.
    pub(crate) fn text(&self) -> &Secret {
        &self.text
    }

    /// The token as `/provision` takes it: `bw1.<id>.<secret>`.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The token's public half.
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// The server's host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The server's port for devices.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The keys of the roots that may be believed.
    #[must_use]
    pub fn pins(&self) -> &[SpkiHash] {
        &self.pins
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle(bw1.{}.…@{}:{})", self.token_id, self.host, self.port)
    }
}

fn half(text: Option<&str>, what: &'static str) -> Result<String, BundleError> {
    let text = text.ok_or(BundleError::Token { what })?.to_ascii_lowercase();
    match text.len() == 26 && text.bytes().all(|byte| ALPHABET.contains(&byte)) {
        true => Ok(text),
        false => Err(BundleError::Token { what }),
    }
}

fn pins_of(text: &str) -> Result<Vec<SpkiHash>, BundleError> {
    text.split(',')
        .enumerate()
        .map(|(at, pin)| {
            // The algorithm may stand once for the whole list.
            let digits = match (pin.strip_prefix("sha256:"), at) {
                (Some(digits), _) => Some(digits),
                (None, 0) => None,
                (None, _) => Some(pin),
            };
            digits.and_then(|digits| SpkiHash::parse(digits).ok()).ok_or(BundleError::Pin { number: at + 1 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdefghjkmnpqrs";
    const SECRET: &str = "zyxwvtsrqpnmkjhgfedcba9876";

    fn pin(byte: u8) -> String {
        types::hex(&[byte; 32])
    }

    #[test]
    fn a_bundle_is_a_token_a_server_and_pins() {
        for (text, host, pins) in [
            (format!("bw1.{ID}.{SECRET}@broker.example:8443#sha256:{}", pin(1)), "broker.example", vec![1]),
            (format!(" BW1.{ID}.{}@[::1]:8443#sha256:{}\n", SECRET.to_uppercase(), pin(2)), "::1", vec![2]),
            (format!("bw1.{ID}.{SECRET}@h:8443#sha256:{},{}", pin(1), pin(2)), "h", vec![1, 2]),
            (format!("bw1.{ID}.{SECRET}@h:8443#sha256:{},sha256:{}", pin(1), pin(2)), "h", vec![1, 2]),
        ] {
            let bundle = Bundle::parse(&text).unwrap();
            assert_eq!(bundle.host(), host);
            assert_eq!(bundle.port(), 8443);
            assert_eq!(bundle.token_id(), ID);
            assert_eq!(bundle.token().expose_str(), Some(format!("bw1.{ID}.{SECRET}").as_str()));
            let wanted: Vec<_> = pins.iter().map(|byte| SpkiHash([*byte; 32])).collect();
            assert_eq!(bundle.pins(), wanted);
        }
    }

    #[test]
    fn each_missing_or_wrong_part_is_named_and_the_secret_never() {
        let good = format!("bw1.{ID}.{SECRET}@h:8443#sha256:{}", pin(1));
        for (text, error) in [
            (String::new(), BundleError::Missing { what: "@host:port" }),
            (format!("bw1.{ID}.{SECRET}@h:8443"), BundleError::Missing { what: "a pinned root (#sha256:…)" }),
            (format!("bw1.{ID}.{SECRET}@h#sha256:{}", pin(1)), BundleError::Missing { what: "a port" }),
            (format!("bw1.{ID}.{SECRET}@:1#sha256:{}", pin(1)), BundleError::Missing { what: "a host" }),
            (good.replace("bw1", "bw2"), BundleError::Version { shown: "bw2".into() }),
            (good.replace(ID, &ID[1..]), BundleError::Token { what: "id" }),
            (good.replace(SECRET, &SECRET.replace('z', "l")), BundleError::Token { what: "secret" }),
            (good.replace(SECRET, &format!("{SECRET}.x")), BundleError::Token { what: "secret" }),
            (good.replace(":8443", ":0"), BundleError::Port { shown: "0".into() }),
            (good.replace(":8443", ":65536"), BundleError::Port { shown: "65536".into() }),
            (good.replace("sha256:", "md5:"), BundleError::Pin { number: 1 }),
            (good.replace("sha256:", ""), BundleError::Pin { number: 1 }),
            (format!("{good},sha256:00"), BundleError::Pin { number: 2 }),
        ] {
            let found = Bundle::parse(&text).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!found.to_string().contains(&SECRET[..6]), "{found}");
        }
        assert!(!format!("{:?}", Bundle::parse(&good).unwrap()).contains(&SECRET[..6]));
    }

    #[test]
    fn a_bundle_that_is_all_secret_shows_none_of_it() {
        let error = Bundle::parse(&format!("{SECRET}@h:1#sha256:{}", pin(1))).unwrap_err();
        assert_eq!(error, BundleError::Version { shown: "zyxw".into() });
    }
}
