-- Epochs: what each may pay is fixed when it opens, what it paid when it closes; and what its pay follows from.

CREATE TABLE epochs (
    number      bigint PRIMARY KEY CHECK (number >= 0),
    started_at  bigint NOT NULL,
    ended_at    bigint,
    usd_compute bigint NOT NULL DEFAULT 0 CHECK (usd_compute >= 0),
    usd_render  bigint NOT NULL DEFAULT 0 CHECK (usd_render >= 0),
    burned      bigint NOT NULL DEFAULT 0 CHECK (burned >= 0),
    CONSTRAINT i8_epoch_runs_forward CHECK (ended_at > started_at)
);
CREATE UNIQUE INDEX i8_one_epoch_runs ON epochs ((true)) WHERE ended_at IS NULL;

-- The two pools of an epoch: job (RNP-004's C_t) and availability. `minted` <= `emission` <= what was set at the start.
CREATE TABLE pools (
    epoch        bigint NOT NULL REFERENCES epochs (number),
    name         text   NOT NULL CHECK (name IN ('job', 'availability')),
    emission     bigint NOT NULL CHECK (emission >= 0),
    minted       bigint NOT NULL DEFAULT 0 CHECK (minted >= 0),
    carried_in   bigint NOT NULL DEFAULT 0 CHECK (carried_in >= 0),
    paid         bigint NOT NULL DEFAULT 0 CHECK (paid >= 0),
    carried_out  bigint NOT NULL DEFAULT 0 CHECK (carried_out >= 0),
    remaining    bigint GENERATED ALWAYS AS (minted + carried_in - paid - carried_out) STORED,
    PRIMARY KEY (epoch, name),
    CONSTRAINT i8_minted_within_emission CHECK (minted <= emission),
    CONSTRAINT i8_paid_within_pool CHECK (remaining >= 0)
);

-- Test jobs of an epoch: `weight` is RNP-004's b⁴·t³·m²·c of the readings as integers, 0 where the test was failed.
CREATE TABLE probes (
    node               text          NOT NULL,
    probe              text          NOT NULL,
    epoch              bigint        NOT NULL REFERENCES epochs (number),
    passed             boolean       NOT NULL,
    weight             numeric(120)  NOT NULL CHECK (weight >= 0),
    score_millionths   bigint        NOT NULL CHECK (score_millionths >= 0),
    at                 bigint        NOT NULL,
    PRIMARY KEY (node, probe),
    CONSTRAINT i8_a_failed_test_weighs_nothing CHECK (passed OR (weight = 0 AND score_millionths = 0))
);
CREATE INDEX probes_of_epoch ON probes (epoch, node);

CREATE TABLE rewards (
    epoch                bigint       NOT NULL REFERENCES epochs (number),
    node                 text         NOT NULL,
    coupons              bigint       NOT NULL CHECK (coupons >= 0),
    weight               numeric(120) NOT NULL CHECK (weight >= 0),
    score_millionths     bigint       NOT NULL CHECK (score_millionths >= 0),
    job_reward           bigint       NOT NULL CHECK (job_reward >= 0),
    availability_reward  bigint       NOT NULL CHECK (availability_reward >= 0),
    PRIMARY KEY (epoch, node),
    CONSTRAINT i8_no_work_no_pay CHECK ((coupons > 0 OR job_reward = 0) AND (weight > 0 OR availability_reward = 0))
);
CREATE INDEX rewards_of_node ON rewards (node, epoch);

CREATE FUNCTION open_next_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.number <> coalesce((SELECT max(number) + 1 FROM epochs), 0) OR NEW.ended_at IS NOT NULL THEN
        RAISE EXCEPTION 'I8: epochs open one after the other' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION close_paid_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM pools WHERE epoch = OLD.number AND remaining = 0) <> 2 THEN
        RAISE EXCEPTION 'I8: an epoch closes with its pools paid out or carried over'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER i8_epochs_in_order BEFORE INSERT ON epochs
    FOR EACH ROW EXECUTE FUNCTION open_next_epoch();
CREATE TRIGGER i8_closes_paid BEFORE UPDATE ON epochs FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION close_paid_epoch();
CREATE TRIGGER i8_closed_is_final BEFORE UPDATE ON epochs FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL OR (NEW.number, NEW.started_at) IS DISTINCT FROM (OLD.number, OLD.started_at))
    EXECUTE FUNCTION refuse('I8: a closed epoch is final');
CREATE TRIGGER epochs_stay BEFORE DELETE OR TRUNCATE ON epochs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I8: an epoch is never removed');
CREATE TRIGGER i8_pools_open_empty BEFORE INSERT ON pools FOR EACH ROW
    WHEN (NEW.minted <> 0 OR NEW.carried_in <> 0 OR NEW.paid <> 0 OR NEW.carried_out <> 0)
    EXECUTE FUNCTION refuse('I8: a pool opens empty');
CREATE TRIGGER i8_pools_follow_transfers BEFORE UPDATE ON pools FOR EACH ROW
    WHEN (pg_trigger_depth() = 0 OR (NEW.epoch, NEW.name, NEW.emission) IS DISTINCT FROM (OLD.epoch, OLD.name, OLD.emission))
    EXECUTE FUNCTION refuse('I8: a pool moves by a transfer alone, and its emission is fixed');
CREATE TRIGGER pools_stay BEFORE DELETE OR TRUNCATE ON pools
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I8: a pool is never removed');
CREATE TRIGGER probes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON probes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I8: test jobs are append-only');
CREATE TRIGGER rewards_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rewards
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I8: rewards are append-only');
