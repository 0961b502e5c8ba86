-- What all workers of an app share. The access token of each, sealed, and who refreshes it: nobody
-- else does before `leased_until`. Version 0 is a lease without a token yet.
CREATE TABLE tokens (
    app          text   PRIMARY KEY COLLATE "C",
    version      bigint NOT NULL,
    sealed       bytea,
    expires_at   bigint,
    leased_until bigint NOT NULL
);

-- A keyed hash of how each app was configured when a worker last began.
CREATE TABLE noted_apps (
    app  text  PRIMARY KEY COLLATE "C",
    hash bytea NOT NULL
);
