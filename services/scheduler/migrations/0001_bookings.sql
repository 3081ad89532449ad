-- Nodes: what each says it is, and where it stands. `fence` grows with every lease and never falls.
CREATE TABLE nodes (
    node_id           text PRIMARY KEY,
    boot_id           text NOT NULL,
    past_boots        text[] NOT NULL DEFAULT '{}',
    state             text NOT NULL CHECK (state IN ('live', 'lost', 'withdrawn', 'banned')),
    draining          boolean NOT NULL DEFAULT false,
    spec              jsonb NOT NULL,
    model             text NOT NULL,
    gpus              integer NOT NULL CHECK (gpus >= 0),
    tier              integer NOT NULL,
    country           text NOT NULL,
    address           text NOT NULL,
    ports_first       integer NOT NULL,
    ports_count       integer NOT NULL,
    reputation_millis integer NOT NULL DEFAULT 50 CHECK (reputation_millis BETWEEN 0 AND 1000),
    scored_at         bigint NOT NULL DEFAULT 0,
    fence             bigint NOT NULL DEFAULT 0,
    joined_at         bigint NOT NULL,
    last_seen_at      bigint NOT NULL,
    last_leased_at    bigint NOT NULL DEFAULT 0,
    changed_at        bigint NOT NULL
);
CREATE INDEX nodes_of_model ON nodes (model) WHERE state = 'live' AND NOT draining;
CREATE INDEX nodes_changed ON nodes (changed_at);

CREATE FUNCTION fences_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the fence of % cannot fall from % to %', OLD.node_id, OLD.fence, NEW.fence;
END
$$;
CREATE TRIGGER fences_only_grow BEFORE UPDATE ON nodes
    FOR EACH ROW WHEN (NEW.fence < OLD.fence) EXECUTE FUNCTION fences_only_grow();

-- Bookings. `deadline_at` is when something has to happen even if no message comes; `missing` counts places of a
-- running cluster that no node fills.
CREATE TABLE bookings (
    partner       text NOT NULL,
    booking_id    text NOT NULL,
    state         text NOT NULL CHECK (state IN
        ('placed', 'held', 'starting', 'ready', 'degraded', 'restarting', 'refused', 'ended', 'settled')),
    order_digest  text NOT NULL,
    request       jsonb NOT NULL,
    max_total     jsonb NOT NULL,
    quote_id      text,
    hourly        jsonb,
    generation    integer NOT NULL,
    cluster_token text NOT NULL,
    head_lease_id text,
    placed_at     bigint NOT NULL,
    since         bigint NOT NULL,
    ready_at      bigint NOT NULL,
    expires_at    bigint NOT NULL,
    ended_at      bigint NOT NULL,
    end_reason    text,
    refusal       jsonb,
    failures      integer NOT NULL,
    missing       integer NOT NULL,
    deadline_at   bigint,
    PRIMARY KEY (partner, booking_id)
);
CREATE INDEX bookings_due ON bookings (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX bookings_wanting ON bookings (since) WHERE missing > 0;
CREATE INDEX bookings_newest ON bookings (partner, placed_at DESC, booking_id);

-- Leases: one node for one place of one booking. What was agreed and where it runs is frozen here.
CREATE TABLE leases (
    lease_id    text PRIMARY KEY,
    partner     text NOT NULL,
    booking_id  text NOT NULL,
    place       integer NOT NULL CHECK (place >= 0),
    number      integer NOT NULL,
    node_id     text NOT NULL REFERENCES nodes,
    fence       bigint NOT NULL CHECK (fence > 0),
    hourly      jsonb NOT NULL,
    address     text NOT NULL,
    ports_first integer NOT NULL,
    ports_count integer NOT NULL,
    gpus        integer NOT NULL,
    state       text NOT NULL CHECK (state IN ('held', 'active', 'ended')),
    granted_at  bigint NOT NULL,
    started_at  bigint NOT NULL,
    ended_at    bigint NOT NULL,
    reason      text,
    joined      boolean NOT NULL,
    blamed      boolean NOT NULL,
    FOREIGN KEY (partner, booking_id) REFERENCES bookings,
    UNIQUE (node_id, fence),
    CHECK ((state = 'ended') = (reason IS NOT NULL)),
    CHECK (started_at = 0 OR ended_at = 0 OR ended_at >= started_at)
);
-- The guard against double booking: whatever the code does, a node has one live lease at most, and a place one node.
CREATE UNIQUE INDEX leases_one_a_node ON leases (node_id) WHERE state <> 'ended';
CREATE UNIQUE INDEX leases_one_a_place ON leases (partner, booking_id, place) WHERE state <> 'ended';
CREATE INDEX leases_of_booking ON leases (partner, booking_id, number);

CREATE TABLE jobs (
    partner    text NOT NULL,
    booking_id text NOT NULL,
    job_id     text NOT NULL,
    state      text NOT NULL CHECK (state IN ('accepted', 'delivered', 'running', 'cancelling', 'refused', 'finished')),
    job_order  jsonb NOT NULL,
    node_id    text NOT NULL,
    attempt    integer NOT NULL CHECK (attempt > 0),
    status     text,
    PRIMARY KEY (partner, booking_id, job_id),
    FOREIGN KEY (partner, booking_id) REFERENCES bookings
);
CREATE INDEX jobs_open ON jobs (partner, booking_id) WHERE state NOT IN ('refused', 'finished');
