-- What all workers of an app share. The access token of each, sealed, and who refreshes it: nobody
-- else does before `leased_until`. Version 0 is a lease without a token yet.
CREATE TABLE tokens (
    app          TEXT PRIMARY KEY,
    version      INTEGER NOT NULL,
    sealed       BLOB,
    expires_at   INTEGER,
    leased_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A keyed hash of how each app was configured when a worker last began.
CREATE TABLE noted_apps (
    app  TEXT PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;
