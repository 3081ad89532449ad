-- Each row is one effect; no key, so that an effect that happens twice shows.
CREATE TABLE tally (
    nth  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    who  text NOT NULL,
    n    int NOT NULL
);
