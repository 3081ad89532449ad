-- Which node runs which job: the newest attempt alone may deliver.
CREATE TABLE routes (
    booking_id text NOT NULL,
    job_id     text NOT NULL,
    partner    text NOT NULL,
    node_id    text NOT NULL,
    attempt    integer NOT NULL CHECK (attempt >= 1),
    PRIMARY KEY (booking_id, job_id)
);
