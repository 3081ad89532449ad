-- Which nodes stand in the pool. A node that left keeps its row: events may arrive out of order, and `at`, the time of
-- the newest one, tells an old admission from a new one.
CREATE TABLE pool (
    node_id text PRIMARY KEY,
    model   text NOT NULL,
    present boolean NOT NULL,
    at      bigint NOT NULL
);

CREATE INDEX pool_by_model ON pool (model) WHERE present;
