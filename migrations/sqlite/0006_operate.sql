-- What operators did, for whoever asks later: no identifiers, no secrets. Few rows, kept for good.
CREATE TABLE audits (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    author TEXT    NOT NULL,
    action TEXT    NOT NULL,
    note   TEXT    NOT NULL,
    -- JSON objects: what was asked for, and what it came to in numbers.
    detail TEXT    NOT NULL,
    counts TEXT    NOT NULL
) STRICT;
-- Contested claims are few, and found without a look at the others.
CREATE INDEX claims_contested ON claims (account) WHERE why IS NOT NULL;
