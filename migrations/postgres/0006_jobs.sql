-- Long work of operators' that can be stopped and gone on with. Progress and counts are written in the
-- transactions of the changes that they count; only the holder writes them.
CREATE TABLE jobs (
    id         uuid    PRIMARY KEY,
    kind       text    NOT NULL,
    -- JSON, all three. The spec is fixed; what names somebody in the progress is sealed.
    spec       text    NOT NULL,
    progress   text    NOT NULL,
    counts     text    NOT NULL,
    author     text    NOT NULL,
    note       text    NOT NULL,
    done       boolean NOT NULL DEFAULT false,
    begun_at   bigint  NOT NULL,
    noted_at   bigint  NOT NULL,
    -- The store's life that it works in: a rebuild ends it.
    store      uuid    NOT NULL,
    epoch      integer NOT NULL,
    holder     uuid,
    held_until bigint  NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE INDEX jobs_begun ON jobs (begun_at);

-- What WeChat answered to operators' questions about accounts within the last day, sealed: nobody is
-- asked twice for a dry run and the work itself. `own` is the account's; `what` a hash of the question.
CREATE TABLE answers (
    own    uuid   NOT NULL,
    what   bytea  NOT NULL,
    at     bigint NOT NULL,
    sealed bytea  NOT NULL,
    PRIMARY KEY (own, what)
);
CREATE INDEX answers_at ON answers USING brin (at) WITH (autosummarize = on);
