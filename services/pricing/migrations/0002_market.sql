-- What an hour of each unit of a node is sold for at least (micro-USD before the fee; 0: any price).
ALTER TABLE pool ADD COLUMN ask_micros bigint NOT NULL DEFAULT 0;

-- Whether a node is leased. `fence` grows with every lease of a node, so that a lease's end is told from the next
-- lease's begin in whatever order they arrive; `at` is the time of the newest word.
CREATE TABLE occupancy (
    node_id text PRIMARY KEY,
    fence   bigint NOT NULL,
    busy    boolean NOT NULL,
    at      bigint NOT NULL
);

-- Where the surge of each model stands, in millionths.
CREATE TABLE surge (
    model text PRIMARY KEY,
    mean  bigint NOT NULL,
    level bigint NOT NULL,
    at    bigint NOT NULL
);

-- The newest rate of each source, and its last one that was no jump.
CREATE TABLE market_rate (
    partner       text NOT NULL,
    source        text NOT NULL,
    model         text NOT NULL,
    tier          text NOT NULL,
    hourly_micros bigint NOT NULL,
    observed_at   bigint NOT NULL,
    before_micros bigint NOT NULL,
    before_at     bigint NOT NULL,
    PRIMARY KEY (model, partner, tier, source)
);

-- Bookings that were priced and are not ready yet, and how long those took that are.
CREATE TABLE waiting (
    partner    text NOT NULL,
    booking_id text NOT NULL,
    model      text NOT NULL,
    placed_at  bigint NOT NULL,
    PRIMARY KEY (partner, booking_id)
);

CREATE TABLE ready_time (
    model text NOT NULL,
    at    bigint NOT NULL,
    ms    bigint NOT NULL
);

CREATE INDEX ready_time_by_model ON ready_time (model, at);
