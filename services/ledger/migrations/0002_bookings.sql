-- The escrow of each booking, and the facts it is settled from; facts are kept as they arrive, in whatever order.

CREATE TABLE bookings (
    partner    text   NOT NULL,
    booking    text   NOT NULL,
    opened_at  bigint NOT NULL,
    escrow     text   NOT NULL DEFAULT 'none' CHECK (escrow IN ('none', 'funded', 'declined')),
    asked      bigint NOT NULL DEFAULT 0 CHECK (asked >= 0),    -- what the gang may cost at most
    leases     jsonb  NOT NULL DEFAULT '[]',                    -- the gang as it was held
    refusal    jsonb,                                           -- why the escrow was declined
    ended_at   bigint,
    escrowed   bigint NOT NULL DEFAULT 0 CHECK (escrowed >= 0),
    fee        bigint NOT NULL DEFAULT 0 CHECK (fee >= 0),
    burned     bigint NOT NULL DEFAULT 0 CHECK (burned >= 0),
    refunded   bigint NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    remaining  bigint GENERATED ALWAYS AS (escrowed - fee - burned - refunded) STORED,
    PRIMARY KEY (partner, booking),
    CONSTRAINT i6_escrow_not_overspent CHECK (remaining >= 0),
    CONSTRAINT i6_ended_is_empty CHECK (ended_at IS NULL OR remaining = 0),
    CONSTRAINT i6_escrow_is_what_was_asked CHECK (escrowed IN (0, asked)),
    CONSTRAINT escrow_only_if_funded CHECK (escrow = 'funded' OR escrowed = 0),
    CONSTRAINT declined_says_why CHECK ((escrow = 'declined') = (refusal IS NOT NULL))
);

-- When each lease ran. The first word on a lease stands.
CREATE TABLE lease_spans (
    partner     text   NOT NULL,
    booking     text   NOT NULL,
    lease       text   NOT NULL,
    node        text   NOT NULL,
    fence       bigint NOT NULL,
    hourly      bigint NOT NULL CHECK (hourly >= 0),
    started_at  bigint NOT NULL,               -- 0: billing had not begun
    ended_at    bigint NOT NULL,
    PRIMARY KEY (partner, booking, lease),
    FOREIGN KEY (partner, booking) REFERENCES bookings (partner, booking)
);

CREATE TABLE lease_charges (
    partner    text   NOT NULL,
    booking    text   NOT NULL,
    lease      text   NOT NULL,
    node       text   NOT NULL,
    epoch      bigint NOT NULL,                -- the epoch whose work it is
    hourly     bigint NOT NULL CHECK (hourly >= 0),
    billed_ms  bigint NOT NULL CHECK (billed_ms >= 0),
    cost       bigint NOT NULL,
    fee        bigint NOT NULL CHECK (fee >= 0),
    burned     bigint NOT NULL CHECK (burned >= 0),
    coupons    bigint NOT NULL,
    render     bigint NOT NULL CHECK (render >= 0),   -- base units bought and burned
    at         bigint NOT NULL,
    PRIMARY KEY (partner, booking, lease),
    FOREIGN KEY (partner, booking, lease) REFERENCES lease_spans (partner, booking, lease),
    CONSTRAINT i6_cost_follows_from_time CHECK (cost = div(hourly::numeric * billed_ms, 3600000)),
    CONSTRAINT i6_fee_and_burned_are_the_cost CHECK (fee + burned = cost),
    CONSTRAINT i6_a_coupon_is_a_dollar_burned CHECK (coupons = burned)
);
CREATE INDEX lease_charges_of_node ON lease_charges (node, epoch);

-- Time in which a place stood empty, as said of the lease that filled it again.
CREATE TABLE gaps (
    partner  text   NOT NULL,
    booking  text   NOT NULL,
    lease    text   NOT NULL,
    hourly   bigint NOT NULL CHECK (hourly >= 0),
    gap_ms   bigint NOT NULL CHECK (gap_ms >= 0),
    PRIMARY KEY (partner, booking, lease),
    FOREIGN KEY (partner, booking) REFERENCES bookings (partner, booking)
);

CREATE TABLE gap_refunds (
    partner  text   NOT NULL,
    booking  text   NOT NULL,
    lease    text   NOT NULL,
    amount   bigint NOT NULL CHECK (amount > 0),
    PRIMARY KEY (partner, booking, lease),
    FOREIGN KEY (partner, booking, lease) REFERENCES gaps (partner, booking, lease)
);

CREATE TRIGGER bookings_stay BEFORE DELETE OR TRUNCATE ON bookings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I6: a booking is never removed');
CREATE TRIGGER i6_opens_empty BEFORE INSERT ON bookings FOR EACH ROW
    WHEN (NEW.escrowed <> 0 OR NEW.fee <> 0 OR NEW.burned <> 0 OR NEW.refunded <> 0)
    EXECUTE FUNCTION refuse('I6: a booking opens with nothing in escrow');
CREATE TRIGGER i6_totals_follow_transfers BEFORE UPDATE ON bookings FOR EACH ROW
    WHEN (pg_trigger_depth() = 0 AND (NEW.escrowed, NEW.fee, NEW.burned, NEW.refunded)
          IS DISTINCT FROM (OLD.escrowed, OLD.fee, OLD.burned, OLD.refunded))
    EXECUTE FUNCTION refuse('I6: the escrow of a booking moves by a transfer alone');
CREATE TRIGGER bookings_keep_their_word BEFORE UPDATE ON bookings FOR EACH ROW
    WHEN ((OLD.escrow <> 'none' AND (NEW.escrow, NEW.asked, NEW.leases) IS DISTINCT FROM (OLD.escrow, OLD.asked, OLD.leases))
          OR (OLD.ended_at IS NOT NULL AND NEW.ended_at IS DISTINCT FROM OLD.ended_at)
          OR (NEW.partner, NEW.booking) IS DISTINCT FROM (OLD.partner, OLD.booking))
    EXECUTE FUNCTION refuse('I6: what was decided of a booking stays');
CREATE TRIGGER lease_spans_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lease_spans
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I6: lease spans are append-only');
CREATE TRIGGER lease_charges_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lease_charges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I6: lease charges are append-only');
CREATE TRIGGER gaps_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gaps
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I6: gaps are append-only');
CREATE TRIGGER gap_refunds_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gap_refunds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I6: gap refunds are append-only');
