//! openssl as the outside judge: it reads what we write, and we read what it writes.
//! Where no openssl is installed these tests say so and pass.

use std::path::Path;
use std::process::{Command, Output};

use signer::{FileKey, RawSigner as _, SystemEntropy};
use types::Secret;
use x509::KeyKind;

const KINDS: [KeyKind; 4] = [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa { bits: 2048 }];

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// Runs openssl; `None` if there is none.
fn openssl(folder: &Path, arguments: &str) -> Option<Output> {
    match Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("openssl does not run ({error}): not judged");
            None
        }
    }
}

fn succeed(folder: &Path, arguments: &str) -> Option<Vec<u8>> {
    let output = openssl(folder, arguments)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {errors}");
    Some(output.stdout)
}

#[test]
fn openssl_reads_our_plain_and_encrypted_keys() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let key = FileKey::generate(kind).unwrap();
        let (plain, sealed) = (folder.path().join("plain.pem"), folder.path().join("sealed.pem"));
        key.save_new(&plain, None, &mut SystemEntropy).unwrap();
        key.save_new(&sealed, Some(&secret("unlock")), &mut SystemEntropy).unwrap();
        for command in [
            "pkey -in plain.pem -pubout -outform DER",
            "pkey -in sealed.pem -passin pass:unlock -pubout -outform DER",
        ] {
            let Some(spki) = succeed(folder.path(), command) else { return };
            assert_eq!(spki, key.spki_der(), "{kind:?}");
        }
        let wrong = openssl(folder.path(), "pkey -in sealed.pem -passin pass:wrong -noout").unwrap();
        assert!(!wrong.status.success());
        for path in [plain, sealed] {
            fs_err::remove_file(path).unwrap();
        }
    }
}

#[test]
fn our_encryption_is_scrypt_with_n_16384_and_aes_256() {
    let folder = tempfile::tempdir().unwrap();
    let key = FileKey::generate(KeyKind::P256).unwrap();
    key.save_new(&folder.path().join("sealed.pem"), Some(&secret("unlock")), &mut SystemEntropy).unwrap();
    let Some(shown) = succeed(folder.path(), "asn1parse -in sealed.pem") else { return };
    let shown = String::from_utf8(shown).unwrap();
    for word in ["PBES2", "scrypt", "INTEGER           :4000", "aes-256-cbc"] {
        assert!(shown.contains(word), "{word} not in {shown}");
    }
}

#[test]
fn we_read_every_form_that_openssl_writes() {
    let folder = tempfile::tempdir().unwrap();
    let forms = [
        ("ecparam -name prime256v1 -genkey -out KEY", KeyKind::P256),
        ("ecparam -name prime256v1 -genkey -noout -out KEY", KeyKind::P256),
        ("ecparam -name secp384r1 -genkey -out KEY", KeyKind::P384),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY", KeyKind::P256),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -aes-256-cbc -pass pass:unlock -out KEY",
            KeyKind::P384,
        ),
        ("genpkey -algorithm ED25519 -out KEY", KeyKind::Ed25519),
        ("genpkey -algorithm ED25519 -aes-128-cbc -pass pass:unlock -out KEY", KeyKind::Ed25519),
        ("genrsa -traditional -out KEY 2048", KeyKind::Rsa { bits: 2048 }),
        ("genrsa -out KEY 3072", KeyKind::Rsa { bits: 3072 }),
        ("genrsa -aes-256-cbc -passout pass:unlock -out KEY 2048", KeyKind::Rsa { bits: 2048 }),
    ];
    for (at, (command, kind)) in forms.into_iter().enumerate() {
        let name = format!("{at}.pem");
        if succeed(folder.path(), &command.replace("KEY", &name)).is_none() {
            return;
        }
        let key = FileKey::load(&folder.path().join(&name), Some(&secret("unlock"))).unwrap();
        assert_eq!(key.kind(), kind, "{command}");
        let public = format!("pkey -in {name} -passin pass:unlock -pubout -outform DER");
        assert_eq!(succeed(folder.path(), &public).unwrap(), key.spki_der(), "{command}");
    }
}

#[test]
fn we_read_openssl_scrypt_and_refuse_what_we_do_not_use() {
    let folder = tempfile::tempdir().unwrap();
    let make = [
        "ecparam -name prime256v1 -genkey -noout -out plain.pem",
        "pkcs8 -topk8 -in plain.pem -scrypt -passout pass:unlock -out scrypt.pem",
        "ec -in plain.pem -aes128 -passout pass:unlock -out old.pem",
        "pkcs8 -topk8 -in plain.pem -v2prf hmacWithSHA1 -passout pass:unlock -out sha1.pem",
        "ecparam -name secp521r1 -genkey -noout -out p521.pem",
        "ecparam -name secp256k1 -genkey -noout -out k1.pem",
        "genrsa -out small.pem 1024",
        "genrsa -traditional -out small1.pem 1024",
    ];
    for command in make {
        if succeed(folder.path(), command).is_none() {
            return;
        }
    }
    let load = |name: &str| FileKey::load(&folder.path().join(name), Some(&secret("unlock")));
    assert_eq!(load("scrypt.pem").unwrap().spki_der(), load("plain.pem").unwrap().spki_der());
    for (name, code) in [
        ("old.pem", "key.unsupported_encryption"),
        ("sha1.pem", "key.unsupported_encryption"),
        ("p521.pem", "key.unsupported"),
        ("k1.pem", "key.unsupported"),
        ("small.pem", "key.malformed"),
        ("small1.pem", "key.malformed"),
    ] {
        assert_eq!(load(name).err().map(|error| error.code()), Some(code), "{name}");
    }
}

#[test]
fn openssl_verifies_our_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs_err::write(file("message"), b"signed bytes").unwrap();
    for kind in KINDS {
        let key = FileKey::generate(kind).unwrap();
        fs_err::write(file("signature"), key.sign(b"signed bytes").unwrap()).unwrap();
        fs_err::write(file("public.pem"), x509::pem::encode("PUBLIC KEY", key.spki_der())).unwrap();
        let command = match kind {
            KeyKind::P384 => "dgst -sha384 -verify public.pem -signature signature message",
            KeyKind::Ed25519 => {
                "pkeyutl -verify -pubin -inkey public.pem -rawin -in message -sigfile signature"
            }
            KeyKind::P256 | KeyKind::Rsa { .. } => {
                "dgst -sha256 -verify public.pem -signature signature message"
            }
        };
        if succeed(folder.path(), command).is_none() {
            return;
        }
    }
}
