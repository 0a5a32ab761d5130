use types::{Blame, CertRef, Epoch, PrincipalKind};

/// Why the store refused or failed; a refusal changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No device of that name is registered.
    #[error("device \"{id}\" is not registered")]
    UnknownDevice {
        /// The name that was asked for.
        id: String,
    },
    /// No service, operator or device of that name is registered.
    #[error("{kind} \"{name}\" is not registered", kind = kind.as_str())]
    UnknownPrincipal {
        /// The kind that was asked for.
        kind: PrincipalKind,
        /// The name that was asked for.
        name: String,
    },
    /// The name was revoked before.
    #[error("\"{name}\" was already revoked, epoch {epoch}")]
    AlreadyRevoked {
        /// The name, or the certificate's serial.
        name: String,
        /// An epoch in which that is so: for a name the one that revoked it, for a certificate the last.
        epoch: Epoch,
    },
    /// The device is not suspended, so it cannot be restored.
    #[error("device \"{id}\" is not suspended")]
    NotSuspended {
        /// The device.
        id: String,
    },
    /// A name is borne by a principal of this or another kind; names fold ASCII case.
    #[error("name \"{name}\" is taken by the {kind} of that name", kind = kind.as_str())]
    NameTaken {
        /// The name that was wanted.
        name: String,
        /// Who bears it.
        kind: PrincipalKind,
    },
    /// The device is revoked, suspended, or on the deny-list.
    #[error("\"{id}\" is revoked, suspended or denied")]
    DeviceDenied {
        /// The device or other principal.
        id: String,
    },
    /// The device has a live certificate and the token does not say that it replaces it.
    #[error("device \"{id}\" has a live certificate; a token for it must be made with replace")]
    NeedsReplace {
        /// The device.
        id: String,
    },
    /// A certificate that the ledger does not hold.
    #[error("certificate {shown} is not in the ledger")]
    UnknownCertificate {
        /// Its serial or its hash.
        shown: String,
    },
    /// The certificate cannot be confirmed because it was revoked or suspended.
    #[error("certificate {cert} is revoked or suspended")]
    CertificateUnusable {
        /// The certificate.
        cert: CertRef,
    },
    /// No CA of that id is registered.
    #[error("no ca with id {shown}")]
    UnknownIssuer {
        /// Its id.
        shown: String,
    },
    /// A CA with this id or this label is there already.
    #[error("a ca with id {shown} or label \"{label}\" exists already")]
    CaExists {
        /// Its id.
        shown: String,
        /// Its label.
        label: String,
    },
    /// A CA certificate that cannot be an anchor.
    #[error("ca certificate \"{label}\" cannot be used: {detail}")]
    CaUnusable {
        /// Its label.
        label: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No token of that id.
    #[error("token \"{id}\" is unknown")]
    UnknownToken {
        /// The public half of the token.
        id: String,
    },
    /// A token of that id is there already.
    #[error("token \"{id}\" exists already")]
    TokenExists {
        /// The public half of the token.
        id: String,
    },
    /// A token that would be born expired.
    #[error("token \"{id}\" would expire at {expires_at}, which has passed")]
    TokenExpired {
        /// The public half of the token.
        id: String,
        /// When it would expire.
        expires_at: types::Wall,
    },
    /// The token is spent: its certificate is confirmed, so the certificate is what can be revoked.
    #[error("token \"{id}\" is spent; revoke its certificate instead")]
    TokenSpent {
        /// The public half of the token.
        id: String,
    },
    /// The token was bound, spent or revoked by another request in the meantime.
    #[error("token \"{id}\" is no longer usable for this request")]
    TokenLost {
        /// The public half of the token.
        id: String,
    },
    /// The serial is used already under this issuer.
    #[error("serial {cert} is taken under its issuer")]
    SerialTaken {
        /// The certificate that was to be.
        cert: CertRef,
    },
    /// The key belongs to another principal, to a server or to a CA.
    #[error("the key is certified for another name")]
    KeyShared,
    /// The certificate is not the one that the intent recorded.
    #[error("certificate {cert}: {detail}")]
    WrongCertificate {
        /// The certificate that was recorded as intended.
        cert: CertRef,
        /// How the bytes differ.
        detail: &'static str,
    },
    /// The intent has its certificate already, with other bytes; `token_check` returns them.
    #[error("certificate {cert} is recorded already with other bytes")]
    AlreadyRecorded {
        /// The certificate.
        cert: CertRef,
    },
    /// No order of that number.
    #[error("order {id} is unknown or finished")]
    UnknownOrder {
        /// Its number.
        id: u64,
    },
    /// A CRL whose number is not above the last one's.
    #[error("crl number {number} is not above {last}")]
    CrlNumber {
        /// The number that was offered.
        number: u64,
        /// The number of the CRL that is stored.
        last: u64,
    },
    /// Events that do not continue the chain, or are not the oldest unchained ones.
    #[error("event {seq} does not continue the chain: {detail}")]
    ChainBroken {
        /// The sequence number of the event.
        seq: u64,
        /// What differs.
        detail: &'static str,
    },
    /// The database is older than the epoch file: a backup was put back.
    #[error(
        "the database is at epoch {database}, but epoch {file} was reached before: a backup was put back; \
         run `bailiwick store recover`, which raises the incarnation and kills unused tokens"
    )]
    Restored {
        /// The epoch in the database.
        database: Epoch,
        /// The epoch in the file beside it.
        file: Epoch,
    },
    /// The epoch file says nothing readable, or is gone where there must be one.
    #[error("epoch file {path}: {detail}; run `bailiwick store recover`, which kills unused tokens")]
    EpochFile {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// A newer release wrote this database.
    #[error("the database has schema {found}, this release knows up to {known}; run the newer release")]
    Newer {
        /// The schema that was found.
        found: i64,
        /// The newest that this release knows.
        known: i64,
    },
    /// A SQLite file of some other program.
    #[error("{path} is not a bailiwick database")]
    Foreign {
        /// The file.
        path: String,
    },
    /// No room left on the disk.
    #[error("the disk or the database is full: {detail}")]
    Full {
        /// What the database says.
        detail: String,
    },
    /// The database cannot be written.
    #[error("the database is read-only: {detail}")]
    ReadOnly {
        /// What the database says.
        detail: String,
    },
    /// Another process holds the database.
    #[error("the database is locked by another process: {detail}")]
    Locked {
        /// What the database says.
        detail: String,
    },
    /// The file is damaged, or a value in it is none that we wrote.
    #[error("the database is damaged: {detail}")]
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// A file or the disk failed.
    #[error("{detail}")]
    Io {
        /// What failed, with the path.
        detail: String,
    },
    /// Anything else that the database answered.
    #[error("the database failed: {detail}")]
    Database {
        /// What the database says.
        detail: String,
    },
    /// The store's threads are gone; nothing was changed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::TokenLost { .. } | Self::KeyShared => Blame::Peer,
            Self::Full { .. }
            | Self::ReadOnly { .. }
            | Self::Locked { .. }
            | Self::Corrupt { .. }
            | Self::Io { .. }
            | Self::Closed => Blame::Us,
            Self::Database { .. }
            | Self::WrongCertificate { .. }
            | Self::AlreadyRecorded { .. }
            | Self::SerialTaken { .. }
            | Self::CrlNumber { .. }
            | Self::ChainBroken { .. } => Blame::Bug,
            _ => Blame::Operator,
        }
    }

    /// Stable slug for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownDevice { .. } => "store.unknown_device",
            Self::UnknownPrincipal { .. } => "store.unknown_principal",
            Self::AlreadyRevoked { .. } => "store.already_revoked",
            Self::NotSuspended { .. } => "store.not_suspended",
            Self::NameTaken { .. } => "store.name_taken",
            Self::DeviceDenied { .. } => "store.device_denied",
            Self::NeedsReplace { .. } => "store.needs_replace",
            Self::UnknownCertificate { .. } => "store.unknown_certificate",
            Self::CertificateUnusable { .. } => "store.certificate_unusable",
            Self::UnknownIssuer { .. } => "store.unknown_issuer",
            Self::CaExists { .. } => "store.ca_exists",
            Self::CaUnusable { .. } => "store.ca_unusable",
            Self::UnknownToken { .. } => "store.unknown_token",
            Self::TokenExists { .. } => "store.token_exists",
            Self::TokenExpired { .. } => "store.token_expired",
            Self::TokenSpent { .. } => "store.token_spent",
            Self::TokenLost { .. } => "store.token_lost",
            Self::SerialTaken { .. } => "store.serial_taken",
            Self::KeyShared => "store.key_shared",
            Self::WrongCertificate { .. } => "store.wrong_certificate",
            Self::AlreadyRecorded { .. } => "store.already_recorded",
            Self::UnknownOrder { .. } => "store.unknown_order",
            Self::CrlNumber { .. } => "store.crl_number",
            Self::ChainBroken { .. } => "store.chain_broken",
            Self::Restored { .. } => "store.restored",
            Self::EpochFile { .. } => "store.epoch_file",
            Self::Newer { .. } => "store.newer_schema",
            Self::Foreign { .. } => "store.foreign_file",
            Self::Full { .. } => "store.full",
            Self::ReadOnly { .. } => "store.read_only",
            Self::Locked { .. } => "store.locked",
            Self::Corrupt { .. } => "store.corrupt",
            Self::Io { .. } => "store.io",
            Self::Database { .. } => "store.database",
            Self::Closed => "store.closed",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { detail },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { detail },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { detail },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { detail },
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Io { detail },
            Some(_) => Self::Database { detail },
            // The statement itself is wrong: our bug, or tables that we did not make.
            None if matches!(error, rusqlite::Error::SqlInputError { .. }) => Self::Database { detail },
            // A column of another type or length than we write.
            None => Self::Corrupt { detail },
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io { detail: error.to_string() }
    }
}
