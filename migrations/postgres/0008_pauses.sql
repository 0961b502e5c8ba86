-- Apps about which WeChat is not asked, until an operator says otherwise.
CREATE TABLE pauses (
    app    text COLLATE "C" PRIMARY KEY,
    at     bigint NOT NULL,
    author text   NOT NULL,
    note   text   NOT NULL
);
