//! Files that hand over an identity: the key of mode 0600, the certificate with its chain, the root.

use std::path::{Path, PathBuf};

use serde_json::Value;
use signer::{FileKey, RawSigner, SystemEntropy};
use x509::KeyKind;

use crate::fail::{Done, Fail};

/// A key that was made here and is on the disk, waiting for its certificate. Until [`Handover::finish`]
/// it removes what it wrote when it is dropped, so that a refusal leaves nothing half-done.
pub(crate) struct Handover {
    key: FileKey,
    name: String,
    out: PathBuf,
    root_pem: String,
    made_folder: bool,
    finished: bool,
}

impl Handover {
    /// Makes the key and writes `NAME.key`; never over a file that is there. `root_pem` is what
    /// `ca.crt` will hold.
    pub(crate) fn begin(out: &Path, name: &str, root_pem: &str) -> Done<Self> {
        let made_folder = !out.exists();
        fs_err::create_dir_all(out)?;
        let (certificate, ca) = (out.join(format!("{name}.crt")), out.join("ca.crt"));
        // The root of another installation stays; ours is shared by all whose files are here.
        let foreign = ca.exists() && fs_err::read(&ca)? != root_pem.as_bytes();
        if let Some(taken) = certificate.exists().then_some(&certificate).or(foreign.then_some(&ca)) {
            return Err(Fail::failed(format!("{} is there already; nothing was changed", taken.display())));
        }
        let key = FileKey::generate(KeyKind::P256).map_err(Fail::failed)?;
        key.save_new(&out.join(format!("{name}.key")), None, &mut SystemEntropy).map_err(Fail::failed)?;
        let root_pem = root_pem.to_owned();
        Ok(Self { key, name: name.to_owned(), out: out.to_owned(), root_pem, made_folder, finished: false })
    }

    /// The certificate request of the key, as PEM.
    pub(crate) fn csr_pem(&self) -> Done<String> {
        let der = signer::csr(&self.key as &dyn RawSigner, &self.name).map_err(Fail::failed)?;
        Ok(x509::pem::encode("CERTIFICATE REQUEST", &der))
    }

    /// Writes `NAME.crt` (the leaf, then its chain) and `ca.crt` (the root).
    pub(crate) fn finish(mut self, answer: &Value) -> Done<Vec<PathBuf>> {
        let leaf = pem_text(&answer["certificate"]);
        if leaf.is_empty() {
            return Err(Fail::failed("the answer holds no certificate"));
        }
        let (certificate, ca) = (self.out.join(format!("{}.crt", self.name)), self.out.join("ca.crt"));
        fs_err::write(&certificate, leaf + &without_roots(&pem_text(&answer["ca_chain"]))?)?;
        fs_err::write(&ca, &self.root_pem)?;
        self.finished = true;
        Ok(vec![self.out.join(format!("{}.key", self.name)), certificate, ca])
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if !self.finished {
            // The key was never certified: it is worth nothing, and the next attempt needs the name.
            let _ = fs_err::remove_file(self.out.join(format!("{}.key", self.name)));
            if self.made_folder {
                // Only an empty folder goes.
                let _ = fs_err::remove_dir(&self.out);
            }
        }
    }
}

/// One PEM text of a field that is a text or a list of texts.
pub(crate) fn pem_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim_end().to_owned() + "\n",
        Value::Array(items) => items.iter().map(pem_text).collect(),
        _ => String::new(),
    }
}

/// A chain that a client shows never holds the root: the other side has it or does not trust it.
fn without_roots(chain: &str) -> Done<String> {
    if chain.trim().is_empty() {
        return Ok(String::new());
    }
    let certificates = x509::Certificate::parse_pem_chain(chain).map_err(Fail::failed)?;
    let sent =
        certificates.iter().filter(|certificate| certificate.subject_der() != certificate.issuer_der());
    Ok(sent.map(x509::Certificate::to_pem).collect())
}
