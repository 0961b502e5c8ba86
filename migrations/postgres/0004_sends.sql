-- Who may send a code now. A row stays as long as the ledger's rows, and names nobody.
CREATE TABLE sends (
    code   bytea   PRIMARY KEY,
    -- The attempt that may, before `until`. NULL: none, and none may before `until`.
    holder uuid,
    until  bigint  NOT NULL,
    -- When it was last claimed, and how often.
    at     bigint  NOT NULL,
    claims integer NOT NULL,
    -- A request of an attempt before the holder's may have reached WeChat.
    sent   boolean NOT NULL
);
-- Rows come in about that order: a few pages say where the old ones lie.
CREATE INDEX sends_at ON sends USING brin (at) WITH (autosummarize = on);
