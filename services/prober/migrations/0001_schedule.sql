-- When each node is tested next; drawn at random, so it is kept: a restart must not be a way to skip a test.
CREATE TABLE schedule (
    node_id    text PRIMARY KEY,
    next_at    bigint NOT NULL,
    live       boolean NOT NULL DEFAULT true,
    passed     integer NOT NULL DEFAULT 0,
    failed     integer NOT NULL DEFAULT 0
);
CREATE INDEX schedule_due ON schedule (next_at) WHERE live;

-- Every verdict with what is needed to check it again.
CREATE TABLE verdicts (
    probe_id   text PRIMARY KEY,
    node_id    text NOT NULL,
    at         bigint NOT NULL,
    verdict    text NOT NULL CHECK (verdict IN ('passed', 'failed', 'unmeasurable')),
    seed       text NOT NULL,
    questions  jsonb NOT NULL
);
CREATE INDEX verdicts_of_node ON verdicts (node_id, at DESC);
