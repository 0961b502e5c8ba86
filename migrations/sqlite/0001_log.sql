-- The embedded log: partitions, records, and the group that reads the input topic.

CREATE TABLE log_partitions (
    id           INTEGER PRIMARY KEY,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    -- The first offset held, the next to be written, and the newest timestamp.
    start        INTEGER NOT NULL DEFAULT 0,
    next         INTEGER NOT NULL DEFAULT 0,
    newest       INTEGER NOT NULL DEFAULT 0,
    -- Below this offset every key occurs once (topics that keep the newest record of each key).
    compacted_to INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
) STRICT;

-- `place` is (log_partitions.id << 44) | offset: one b-tree, and each partition lies together.
-- The value comes last: what reads only the rest never touches its overflow pages.
CREATE TABLE log_records (
    place     INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    headers   BLOB,
    key       BLOB    NOT NULL,
    value     BLOB
) STRICT;

CREATE INDEX log_tombstones ON log_records (place, timestamp) WHERE value IS NULL;

-- Where the newest record of a key lies, for the compacted part of a partition only: compaction
-- keeps it, appending does not touch it. The hash is the first 64 bits of the key's SHA-256; two
-- keys with one hash have a row each.
CREATE TABLE log_newest (
    log   INTEGER NOT NULL,
    hash  INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (log, hash, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_groups (
    name TEXT PRIMARY KEY,
    -- Counts the assignments; a commit under an older one is void.
    term INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE log_positions (
    name      TEXT    NOT NULL,
    partition INTEGER NOT NULL,
    -- The next input offset to read, and the relay's position (version byte, then postcard).
    input     INTEGER NOT NULL,
    relay     BLOB,
    PRIMARY KEY (name, partition)
) STRICT, WITHOUT ROWID;
