-- Apps about which WeChat is not asked, until an operator says otherwise.
CREATE TABLE pauses (
    app    TEXT    NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL,
    author TEXT    NOT NULL,
    note   TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
