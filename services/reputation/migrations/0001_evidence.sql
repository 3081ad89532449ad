-- What is known of every node, event by event. Nothing here is ever changed: a score can be recomputed from it.
CREATE TABLE evidence (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node_id     text NOT NULL,
    cause_id    text NOT NULL,
    at          bigint NOT NULL,
    because     text NOT NULL,
    good_millis bigint NOT NULL CHECK (good_millis >= 0),
    bad_millis  bigint NOT NULL CHECK (bad_millis >= 0)
);

CREATE INDEX evidence_by_node ON evidence (node_id, at DESC, number DESC);

CREATE FUNCTION evidence_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'evidence is append-only';
END
$$;

CREATE TRIGGER evidence_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION evidence_is_append_only();

-- The sum of a node's evidence, decayed to `at`, and the score that was last made known. `board_stale` marks what the
-- rank board in Valkey does not show yet.
CREATE TABLE standings (
    node_id      text PRIMARY KEY,
    good_nanos   bigint NOT NULL CHECK (good_nanos >= 0),
    bad_nanos    bigint NOT NULL CHECK (bad_nanos >= 0),
    at           bigint NOT NULL,
    lower_millis integer NOT NULL CHECK (lower_millis BETWEEN 0 AND mean_millis),
    mean_millis  integer NOT NULL,
    upper_millis integer NOT NULL CHECK (upper_millis BETWEEN mean_millis AND 1000),
    scored_at    bigint NOT NULL,
    board_stale  boolean NOT NULL DEFAULT true
);

CREATE INDEX standings_by_lower ON standings (lower_millis);
CREATE INDEX standings_by_age ON standings (scored_at);
CREATE INDEX standings_not_on_board ON standings (node_id) WHERE board_stale;
