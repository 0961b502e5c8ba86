-- Dead letters that went back to the login topic, by their place on the dead letter topic; forgotten
-- with them. `stamp` is the letter's time: topics that were made anew have other letters there.
CREATE TABLE redriven (
    partition    integer NOT NULL,
    "offset"     bigint  NOT NULL,
    stamp        bigint  NOT NULL,
    at           bigint  NOT NULL,
    times        integer NOT NULL,
    -- Begun, and nobody noted how it ended; it is not on the login topic before this place.
    under_way    boolean NOT NULL,
    to_partition integer NOT NULL,
    to_offset    bigint  NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX redriven_under_way ON redriven (partition, "offset") WHERE under_way;
