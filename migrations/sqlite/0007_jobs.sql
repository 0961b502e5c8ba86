-- Long work of operators' that can be stopped and gone on with. Progress and counts are written in the
-- transactions of the changes that they count; only the holder writes them.
CREATE TABLE jobs (
    id         BLOB    PRIMARY KEY,
    kind       TEXT    NOT NULL,
    -- JSON, all three. The spec is fixed; what names somebody in the progress is sealed.
    spec       TEXT    NOT NULL,
    progress   TEXT    NOT NULL,
    counts     TEXT    NOT NULL,
    author     TEXT    NOT NULL,
    note       TEXT    NOT NULL,
    done       INTEGER NOT NULL DEFAULT 0,
    begun_at   INTEGER NOT NULL,
    noted_at   INTEGER NOT NULL,
    -- The store's life that it works in: a rebuild ends it.
    store      BLOB    NOT NULL,
    epoch      INTEGER NOT NULL,
    holder     BLOB,
    held_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_begun ON jobs (begun_at);

-- What WeChat answered to operators' questions about accounts within the last day, sealed: nobody is
-- asked twice for a dry run and the work itself. `own` is the account's; `what` a hash of the question.
CREATE TABLE answers (
    own    BLOB    NOT NULL,
    what   BLOB    NOT NULL,
    at     INTEGER NOT NULL,
    sealed BLOB    NOT NULL,
    PRIMARY KEY (own, what)
) STRICT, WITHOUT ROWID;
