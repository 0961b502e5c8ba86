-- What operators did, for whoever asks later: no identifiers, no secrets. Few rows, kept for good.
CREATE TABLE audits (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     bigint NOT NULL,
    author text   NOT NULL,
    action text   NOT NULL,
    note   text   NOT NULL,
    -- JSON objects: what was asked for, and what it came to in numbers.
    detail text   NOT NULL,
    counts text   NOT NULL
);
-- Contested claims are few, and found without a look at the others. A claim that is written as it was
-- in this respect (nearly all are) costs nothing here: the row stays on its page.
CREATE INDEX claims_contested ON claims (account) WHERE why IS NOT NULL;
