CREATE TABLE schema_version (
  version INTEGER PRIMARY KEY,
  applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  incarnation INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  time_floor INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0, 0, 0);

CREATE TABLE counter (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ca (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  label TEXT NOT NULL UNIQUE,
  parent BLOB REFERENCES ca (id),
  kinds TEXT NOT NULL,
  servers INTEGER NOT NULL,
  key_file TEXT,
  admission TEXT NOT NULL,
  identity TEXT NOT NULL,
  added_at INTEGER NOT NULL,
  certificate BLOB NOT NULL
) STRICT;

-- Every name, of whatever kind, once: `folded` is the name in lower case.
CREATE TABLE principal (
  id INTEGER PRIMARY KEY,
  folded TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  kind INTEGER NOT NULL,
  project TEXT NOT NULL,
  standing INTEGER NOT NULL,
  revoked_incarnation INTEGER,
  revoked_epoch INTEGER,
  added_at INTEGER NOT NULL,
  added_by TEXT NOT NULL
) STRICT;
CREATE INDEX principal_others ON principal (folded) WHERE kind <> 0;

CREATE TABLE device (
  folded TEXT PRIMARY KEY REFERENCES principal (folded),
  principal INTEGER NOT NULL UNIQUE REFERENCES principal (id),
  original TEXT,
  fleet TEXT,
  label TEXT
) STRICT, WITHOUT ROWID;

-- The deny-list goes by name, so that a name can be denied before it is registered.
CREATE TABLE denied (
  folded TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whose a key is, for good: a folded name, or `#server` or `#ca`, which are no names.
CREATE TABLE key_owner (
  spki BLOB PRIMARY KEY,
  owner TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  secret_hash BLOB NOT NULL,
  principal INTEGER NOT NULL REFERENCES principal (id),
  state INTEGER NOT NULL,
  spki BLOB,
  replaces INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL
) STRICT;
CREATE INDEX token_principal ON token (principal, number);
CREATE INDEX token_unused ON token (number) WHERE state = 0;

-- What is about to be signed: written before the signature, so that a crash loses nothing.
CREATE TABLE intent (
  id INTEGER PRIMARY KEY,
  issuer BLOB NOT NULL,
  serial BLOB NOT NULL,
  spki BLOB NOT NULL,
  tbs_hash BLOB NOT NULL,
  principal INTEGER REFERENCES principal (id),
  token INTEGER UNIQUE REFERENCES token (number),
  project TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  issuer_label TEXT NOT NULL,
  evidence TEXT NOT NULL,
  state INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  tbs BLOB NOT NULL,
  UNIQUE (issuer, serial)
) STRICT;
CREATE INDEX intent_open ON intent (id) WHERE state = 0;

-- The ledger. The DER stands last, so that admission reads no overflow page.
CREATE TABLE certificate (
  id INTEGER PRIMARY KEY,
  der_hash BLOB NOT NULL UNIQUE,
  issuer BLOB NOT NULL,
  serial BLOB NOT NULL,
  spki BLOB NOT NULL,
  anchor BLOB NOT NULL,
  principal INTEGER REFERENCES principal (id),
  intent INTEGER UNIQUE REFERENCES intent (id),
  token INTEGER REFERENCES token (number),
  lineage INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  state INTEGER NOT NULL,
  held_state INTEGER,
  usable_until INTEGER,
  crl_shard INTEGER NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  revoked_at INTEGER,
  reason INTEGER,
  issuer_label TEXT NOT NULL,
  der BLOB NOT NULL,
  UNIQUE (issuer, serial)
) STRICT;
CREATE INDEX certificate_principal ON certificate (principal, id);
CREATE INDEX certificate_revoked ON certificate (issuer, serial) WHERE state >= 3;
CREATE INDEX certificate_superseded ON certificate (issuer, serial) WHERE state = 2;

CREATE TABLE certificate_order (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind INTEGER NOT NULL,
  name TEXT NOT NULL,
  csr BLOB NOT NULL,
  actor TEXT NOT NULL,
  submitted_at INTEGER NOT NULL,
  state INTEGER NOT NULL,
  certificate BLOB,
  refusal TEXT
) STRICT;
CREATE INDEX certificate_order_open ON certificate_order (id) WHERE state = 0;

CREATE TABLE crl_number (
  issuer BLOB PRIMARY KEY REFERENCES ca (id),
  last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE crl (
  issuer BLOB PRIMARY KEY REFERENCES ca (id),
  number INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  der BLOB NOT NULL
) STRICT;

CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE event_log (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  prev BLOB NOT NULL,
  hash BLOB NOT NULL,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE checkpoint (
  seq INTEGER PRIMARY KEY,
  hash BLOB NOT NULL,
  at INTEGER NOT NULL,
  signature BLOB NOT NULL
) STRICT;

CREATE TABLE lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
