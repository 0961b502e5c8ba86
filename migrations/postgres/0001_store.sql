-- The store on PostgreSQL. Words (methods, reasons, states) are the product's own, as text; times
-- are milliseconds since the epoch. Keys are UUIDs of names in the secret namespace: they sort
-- bytewise, find what outlives an erasure, and tell nobody whose they are. No foreign keys: each
-- batch asserts what it wrote.

-- What the store is, told at birth. One row.
CREATE TABLE store (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    store           uuid    NOT NULL,
    epoch           integer NOT NULL,
    partitions      integer NOT NULL,
    consumer_group  text    NOT NULL,
    namespace_hash  bytea   NOT NULL,
    -- The namespace's id for a fixed name: keys made in another namespace would never be found.
    namespace_probe uuid    NOT NULL,
    -- Counts the batches that erased somebody: what was read before one may name whom it erased.
    erasures        bigint  NOT NULL DEFAULT 0
);

-- `own` is the account's own id in generation 0: one index serves look-ups by account and by
-- published user id, and the row is what batches lock. It is therefore never deleted. Without a
-- user it only holds the place of an account that is erased, or not seen yet. Rows are appended;
-- only the index on `own` is random: what it holds decides how much of it stays in memory.
CREATE TABLE accounts (
    id            bigint  GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    own           uuid    NOT NULL,
    user_id       uuid,
    generation    bigint  NOT NULL DEFAULT 0,
    first_seen_at bigint  NOT NULL DEFAULT 0,
    revision      bigint  NOT NULL DEFAULT 0,
    linked_at     bigint  NOT NULL DEFAULT 0,
    external_at   bigint,
    reason_at     bigint,
    -- There are registers about it: a tombstone, rulings or pairs.
    marked        boolean NOT NULL DEFAULT false,
    -- NULL once erased.
    key           text    COLLATE "C",
    cause         text    NOT NULL DEFAULT '',
    external      text,
    reason        text
) WITH (
    -- A merge rewrites rows of old pages: room for a new version beside the old one spares both
    -- indexes (no indexed column ever changes).
    fillfactor = 90
);
CREATE UNIQUE INDEX accounts_own ON accounts (own);

-- Own ids that are no `own` of a living account: of later generations (with the account), and of
-- erased ones (NULL: gone).
CREATE TABLE own_ids (
    own     uuid PRIMARY KEY,
    account bigint
);

-- What batches lock of a unionid: its key, never changed and never deleted. The unionid itself
-- stands with its claims, which an erasure takes away.
CREATE TABLE unionids (
    id  bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    tag uuid   NOT NULL
);
CREATE UNIQUE INDEX unionids_tag ON unionids (tag);

-- Account and unionid ids ascend, so both indexes grow at their end.
CREATE TABLE claims (
    account  bigint   NOT NULL,
    unionid  bigint   NOT NULL,
    at       bigint   NOT NULL,
    -- 0 accepted, 1 none, 2 rejected: the order in which claims on one unionid are read.
    verdict  smallint NOT NULL,
    reported boolean  NOT NULL,
    platform text     NOT NULL COLLATE "C",
    union_id text     NOT NULL COLLATE "C",
    method   text     NOT NULL,
    cause    text     NOT NULL,
    -- NULL while it links, else why it is contested.
    why      text,
    PRIMARY KEY (account, unionid)
) WITH (fillfactor = 90);
CREATE INDEX claims_unionid ON claims (unionid, verdict);

CREATE TABLE tombstones (
    account   bigint PRIMARY KEY,
    erased_at bigint NOT NULL,
    revision  bigint NOT NULL,
    -- Oldest first.
    own_ids   uuid[] NOT NULL
);

-- Operators' registers. The verdict: 0 accept, 1 withdrawn, 2 reject (never, for a pair).
CREATE TABLE rulings (
    account  bigint   NOT NULL,
    platform text     NOT NULL COLLATE "C",
    union_id text     NOT NULL COLLATE "C",
    verdict  smallint NOT NULL,
    at       bigint   NOT NULL,
    author   text     NOT NULL,
    note     text     NOT NULL,
    PRIMARY KEY (account, platform, union_id)
);
CREATE TABLE pairs (
    a       bigint   NOT NULL,
    b       bigint   NOT NULL,
    verdict smallint NOT NULL,
    at      bigint   NOT NULL,
    author  text     NOT NULL,
    note    text     NOT NULL,
    PRIMARY KEY (a, b)
);
CREATE INDEX pairs_b ON pairs (b);

-- Session keys of unresolved accounts, sealed; a few each.
CREATE TABLE session_keys (
    account   bigint  NOT NULL,
    at        bigint  NOT NULL,
    exchanged boolean NOT NULL,
    sealed    bytea   NOT NULL,
    PRIMARY KEY (account, at, exchanged)
) WITH (
    -- Written when an account comes, deleted when it is resolved, mostly soon.
    autovacuum_vacuum_scale_factor = 0.02
);

-- What codes were exchanged for. Erasure takes account, tag and answer away.
CREATE TABLE ledger (
    code    bytea  PRIMARY KEY,
    at      bigint NOT NULL,
    -- The first eight bytes of the account's mac.
    tag     bigint,
    account text   COLLATE "C",
    answer  bytea
);
-- Of all rows, though erased ones have no tag: PostgreSQL is tempted to read a partial index whole.
CREATE INDEX ledger_tag ON ledger (tag);
-- Rows come in about that order: a few pages say where the old ones lie.
CREATE INDEX ledger_at ON ledger USING brin (at) WITH (autosummarize = on);

-- Resolutions that go on later. A finished one stays as a marker, without account and record,
-- until nothing can bring it up again.
CREATE TABLE deferred (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition  integer NOT NULL,
    "offset"   bigint  NOT NULL,
    attempts   integer NOT NULL,
    next_at    bigint  NOT NULL,
    expires_at bigint  NOT NULL,
    since      bigint  NOT NULL,
    done_at    bigint,
    silent     boolean NOT NULL,
    has_code   boolean NOT NULL,
    waits_key  boolean NOT NULL,
    -- An attempt is under way; `next_at` is the end of its lease.
    leased     boolean NOT NULL DEFAULT false,
    -- What it waits for came while it was leased.
    woken      boolean NOT NULL DEFAULT false,
    app        text    NOT NULL COLLATE "C",
    event      text    NOT NULL COLLATE "C",
    account    text    COLLATE "C",
    record     bytea   NOT NULL,
    UNIQUE (partition, "offset")
) WITH (
    -- Each row is written a handful of times in its short life, and every lease moves it in the
    -- indexes below: vacuum after some thousand dead rows, however large the table is.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
-- Not on the bare column: what looks for one app's due rows must not walk those of all apps.
CREATE INDEX deferred_next ON deferred ((next_at + 0)) WHERE done_at IS NULL;
CREATE INDEX deferred_app ON deferred (app, next_at) WHERE done_at IS NULL AND NOT has_code;
CREATE INDEX deferred_code ON deferred (app, since, next_at) WHERE done_at IS NULL AND has_code;
CREATE INDEX deferred_key ON deferred (account) WHERE done_at IS NULL AND waits_key;
CREATE INDEX deferred_done ON deferred (partition, done_at) WHERE done_at IS NOT NULL;

-- Fates of events that somebody may ask about.
CREATE TABLE tracked (
    event   text   PRIMARY KEY COLLATE "C",
    at      bigint NOT NULL,
    state   text   NOT NULL,
    account text   COLLATE "C",
    reason  text
);
CREATE INDEX tracked_at ON tracked USING brin (at) WITH (autosummarize = on);

-- Every batch rewrites its row of these two. In pages that are nearly empty the new version lies
-- beside the old one, which the next reader of the page clears away: no vacuum, no index entry.
CREATE TABLE positions (
    partition integer PRIMARY KEY,
    "offset"  bigint  NOT NULL,
    digest    bytea   NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
-- The last sequence of each partition's outbox.
CREATE TABLE heads (
    partition integer PRIMARY KEY,
    seq       bigint  NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- All records of a batch for one partition in one row. Relayed rows go within seconds: vacuum after
-- some hundred of them, of the large values first of all, so that the files stay small.
CREATE TABLE outbox (
    partition integer NOT NULL,
    seq       bigint  NOT NULL,
    row_id    uuid    NOT NULL,
    -- A version byte, then postcard.
    records   bytea   NOT NULL,
    PRIMARY KEY (partition, seq)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 200,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0
);
-- Compressing what is read once and deleted costs more than writing it.
ALTER TABLE outbox ALTER COLUMN records SET STORAGE EXTERNAL;
