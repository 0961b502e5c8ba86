-- Dead letters that went back to the login topic, by their place on the dead letter topic; forgotten
-- with them. `stamp` is the letter's time: topics that were made anew have other letters there.
CREATE TABLE redriven (
    partition    INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    stamp        INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    times        INTEGER NOT NULL,
    -- Begun, and nobody noted how it ended; it is not on the login topic before this place.
    under_way    INTEGER NOT NULL,
    to_partition INTEGER NOT NULL,
    to_offset    INTEGER NOT NULL,
    PRIMARY KEY (partition, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX redriven_under_way ON redriven (partition, offset) WHERE under_way = 1;
