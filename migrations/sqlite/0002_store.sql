-- The embedded store. Words (methods, reasons, states) are the product's own, as text; times are
-- milliseconds since the epoch; a `mac` is an HMAC of an account's key: it finds what outlives an
-- erasure without telling whose it was.

-- What the store is, told at birth. One row.
CREATE TABLE store (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    store           BLOB    NOT NULL,
    epoch           INTEGER NOT NULL,
    partitions      INTEGER NOT NULL,
    consumer_group  TEXT    NOT NULL,
    namespace_hash  BLOB    NOT NULL,
    -- The namespace's id for a fixed name: anchors made in another namespace would never be found.
    namespace_probe BLOB    NOT NULL,
    -- Counts the transactions that changed what a planner reads.
    version         INTEGER NOT NULL
) STRICT;

-- Rows are appended; only the anchor's index is random, and small: what it holds decides how much of
-- it stays in memory. The anchor is the first eight bytes of the account's own id in generation 0,
-- so that one index serves look-ups by account and by published user id. Readers compare in full.
CREATE TABLE accounts (
    id            INTEGER PRIMARY KEY,
    anchor        INTEGER NOT NULL,
    key           TEXT    NOT NULL,
    user          BLOB    NOT NULL,
    generation    INTEGER NOT NULL,
    first_seen_at INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    external_at   INTEGER,
    external      TEXT,
    reason_at     INTEGER,
    reason        TEXT,
    cause         TEXT    NOT NULL,
    linked_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX accounts_anchor ON accounts (anchor);

-- Own ids that are no anchor of a living account: of later generations (with the account), and of
-- erased ones (NULL: gone).
CREATE TABLE own_ids (
    own     BLOB PRIMARY KEY,
    account INTEGER
) STRICT, WITHOUT ROWID;

-- Account ids ascend, so new claims are appended; only the index by tag is random. A tag is eight
-- bytes of the unionid's hash in the secret namespace: nobody can make two unionids share one.
CREATE TABLE claims (
    account  INTEGER NOT NULL,
    tag      INTEGER NOT NULL,
    platform TEXT    NOT NULL,
    unionid  TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    method   TEXT    NOT NULL,
    cause    TEXT    NOT NULL,
    -- NULL while it links, else why it is contested.
    why      TEXT,
    -- 0 accepted, 1 none, 2 rejected: the order in which claims on one unionid are read.
    verdict  INTEGER NOT NULL,
    reported INTEGER NOT NULL,
    PRIMARY KEY (account, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_tag ON claims (tag, verdict);

CREATE TABLE tombstones (
    mac       BLOB PRIMARY KEY,
    erased_at INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    -- 16 bytes each, oldest first.
    own_ids   BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- Operators' registers. The verdict: 0 accept, 1 withdrawn, 2 reject (never, for a pair).
CREATE TABLE rulings (
    mac      BLOB    NOT NULL,
    platform TEXT    NOT NULL,
    unionid  TEXT    NOT NULL,
    verdict  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    author   TEXT    NOT NULL,
    note     TEXT    NOT NULL,
    PRIMARY KEY (mac, platform, unionid)
) STRICT, WITHOUT ROWID;
-- The keys in plain become NULL when their account is erased; the macs stay.
CREATE TABLE pairs (
    a_mac   BLOB    NOT NULL,
    b_mac   BLOB    NOT NULL,
    a       TEXT,
    b       TEXT,
    verdict INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    author  TEXT    NOT NULL,
    note    TEXT    NOT NULL,
    PRIMARY KEY (a_mac, b_mac)
) STRICT, WITHOUT ROWID;
CREATE INDEX pairs_b ON pairs (b_mac);

-- Session keys of unresolved accounts, sealed; a few each.
CREATE TABLE session_keys (
    account   INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    exchanged INTEGER NOT NULL,
    sealed    BLOB    NOT NULL,
    PRIMARY KEY (account, at, exchanged)
) STRICT, WITHOUT ROWID;

-- What codes were exchanged for. Erasure takes account, tag and answer away.
CREATE TABLE ledger (
    id      INTEGER PRIMARY KEY,
    code    BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    account TEXT,
    -- The first eight bytes of the account's mac.
    tag     INTEGER,
    answer  BLOB
) STRICT;
CREATE UNIQUE INDEX ledger_code ON ledger (code);
CREATE INDEX ledger_tag ON ledger (tag) WHERE tag IS NOT NULL;

-- Resolutions that go on later. A finished one stays as a marker, without account and record,
-- until nothing can bring it up again.
CREATE TABLE deferred (
    id         INTEGER PRIMARY KEY,
    partition  INTEGER NOT NULL,
    offset     INTEGER NOT NULL,
    silent     INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    app        TEXT    NOT NULL,
    account    TEXT,
    has_code   INTEGER NOT NULL,
    waits_key  INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    record     BLOB    NOT NULL,
    since      INTEGER NOT NULL,
    -- An attempt is under way; `next_at` is the end of its lease.
    leased     INTEGER NOT NULL DEFAULT 0,
    -- What it waits for came while it was leased.
    woken      INTEGER NOT NULL DEFAULT 0,
    done_at    INTEGER,
    UNIQUE (partition, offset)
) STRICT;
CREATE INDEX deferred_next ON deferred (next_at) WHERE done_at IS NULL;
CREATE INDEX deferred_app ON deferred (app, next_at) WHERE done_at IS NULL AND has_code = 0;
CREATE INDEX deferred_code ON deferred (app, since, next_at) WHERE done_at IS NULL AND has_code = 1;
CREATE INDEX deferred_key ON deferred (account) WHERE done_at IS NULL AND waits_key = 1;
CREATE INDEX deferred_done ON deferred (done_at) WHERE done_at IS NOT NULL;

-- Fates of events that somebody may ask about.
CREATE TABLE tracked (
    event   TEXT PRIMARY KEY,
    state   TEXT    NOT NULL,
    account TEXT,
    reason  TEXT,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tracked_at ON tracked (at);

CREATE TABLE positions (
    partition INTEGER PRIMARY KEY,
    offset    INTEGER NOT NULL,
    digest    BLOB    NOT NULL
) STRICT;

-- The last sequence of each partition's outbox, and its rows: all records of a batch in one.
CREATE TABLE heads (
    partition INTEGER PRIMARY KEY,
    seq       INTEGER NOT NULL
) STRICT;
CREATE TABLE outbox (
    partition INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    row       BLOB    NOT NULL,
    -- A version byte, then postcard.
    records   BLOB    NOT NULL,
    PRIMARY KEY (partition, seq)
) STRICT;
