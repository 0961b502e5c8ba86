-- Who may send a code now. A row stays as long as the ledger's rows, and names nobody.
CREATE TABLE sends (
    id     INTEGER PRIMARY KEY,
    code   BLOB    NOT NULL,
    -- The attempt that may, before `until`. NULL: none, and none may before `until`.
    holder BLOB,
    until  INTEGER NOT NULL,
    -- When it was last claimed, and how often.
    at     INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    -- A request of an attempt before the holder's may have reached WeChat.
    sent   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX sends_code ON sends (code);
