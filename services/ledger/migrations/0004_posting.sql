-- What inserting transfers does, once for each statement however many they are: lock, check, move balances, note the
-- batch. Triggers of one event run in the order of their names. Their plans are made while the tables are still empty
-- and kept: without enable_seqscan = off they would read whole tables until somebody runs ANALYZE.

CREATE FUNCTION check_routes() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    wrong text;
BEGIN
    -- In the order of their ids, so that transactions that insert one batch each cannot deadlock.
    PERFORM FROM accounts WHERE id IN (SELECT debit FROM fresh UNION SELECT credit FROM fresh)
        ORDER BY id FOR NO KEY UPDATE;
    SELECT f.id INTO wrong FROM fresh AS f
        LEFT JOIN accounts AS d ON d.id = f.debit AND d.asset = f.asset
        LEFT JOIN accounts AS c ON c.id = f.credit AND c.asset = f.asset
        LEFT JOIN routes AS r ON r.kind = f.kind AND r.debit_kind = d.kind AND r.credit_kind = c.kind
        WHERE NOT coalesce(CASE
            WHEN r.kind IS NULL THEN false
            WHEN r.debit_kind = 'bank' THEN c.owner = f.partner
            WHEN r.kind = 'hold' THEN d.owner = f.partner AND c.owner = f.partner AND c.scope = f.booking
            WHEN r.kind = 'void' THEN d.owner = f.partner AND c.owner = f.partner AND d.scope = f.booking
            WHEN r.kind = 'post' THEN d.owner = f.partner AND d.scope = f.booking
            WHEN r.credit_kind = 'coupon' THEN c.scope = f.epoch::text
            WHEN r.credit_kind = 'pool' THEN c.scope = f.epoch::text AND d.owner IN ('', c.owner)
            WHEN r.credit_kind = 'reserve' THEN d.scope = f.epoch::text AND d.owner = c.owner
            WHEN r.credit_kind = 'pay' THEN d.scope = f.epoch::text
            ELSE true END, false)
        LIMIT 1;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'I1: transfer % has no route: an account is unknown, of another asset or owner, or not its kind',
            wrong USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION check_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named bigint; running bigint;
BEGIN
    SELECT count(DISTINCT epoch) INTO named FROM fresh;
    -- Shared until this transaction ends: the epoch cannot close under it.
    PERFORM FROM epochs WHERE number IN (SELECT epoch FROM fresh) AND ended_at IS NULL FOR SHARE;
    GET DIAGNOSTICS running = ROW_COUNT;
    IF running <> named THEN
        RAISE EXCEPTION 'I8: a transfer belongs to the epoch that runs' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION move_balances() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE accounts AS a SET balance = a.balance + moved.net FROM (
        SELECT id, sum(amount)::bigint AS net FROM (
            SELECT credit AS id, amount FROM fresh UNION ALL SELECT debit, -amount FROM fresh
        ) AS moves GROUP BY id
    ) AS moved WHERE a.id = moved.id;
    RETURN NULL;
END $$;

CREATE FUNCTION move_escrow() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    named bigint; known bigint;
BEGIN
    SELECT count(DISTINCT (partner, booking)) INTO named FROM fresh WHERE kind <> 'plain';
    IF named = 0 THEN
        RETURN NULL;
    END IF;
    UPDATE bookings AS b SET escrowed = b.escrowed + moved.held, fee = b.fee + moved.fee,
        burned = b.burned + moved.burned, refunded = b.refunded + moved.refunded
    FROM (
        SELECT partner, booking,
            coalesce(sum(amount) FILTER (WHERE kind = 'hold'), 0)::bigint AS held,
            coalesce(sum(amount) FILTER (WHERE kind = 'post' AND credit = 'fee'), 0)::bigint AS fee,
            coalesce(sum(amount) FILTER (WHERE kind = 'post' AND credit <> 'fee'), 0)::bigint AS burned,
            coalesce(sum(amount) FILTER (WHERE kind = 'void'), 0)::bigint AS refunded
        FROM fresh WHERE kind <> 'plain' GROUP BY partner, booking
    ) AS moved WHERE b.partner = moved.partner AND b.booking = moved.booking;
    GET DIAGNOSTICS known = ROW_COUNT;
    IF known <> named THEN
        RAISE EXCEPTION 'I6: escrow moves for a known booking alone' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION move_pools() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM fresh WHERE debit LIKE 'pool:%' OR credit LIKE 'pool:%') THEN
        RETURN NULL;
    END IF;
    UPDATE pools AS p SET minted = p.minted + moved.minted, carried_in = p.carried_in + moved.carried_in,
        paid = p.paid + moved.paid, carried_out = p.carried_out + moved.carried_out
    FROM (
        SELECT f.epoch, CASE c.kind WHEN 'pool' THEN c.owner ELSE d.owner END AS name,
            coalesce(sum(f.amount) FILTER (WHERE d.kind = 'render_mint'), 0)::bigint AS minted,
            coalesce(sum(f.amount) FILTER (WHERE d.kind = 'reserve'), 0)::bigint AS carried_in,
            coalesce(sum(f.amount) FILTER (WHERE c.kind = 'pay'), 0)::bigint AS paid,
            coalesce(sum(f.amount) FILTER (WHERE c.kind = 'reserve'), 0)::bigint AS carried_out
        FROM fresh AS f JOIN accounts AS d ON d.id = f.debit JOIN accounts AS c ON c.id = f.credit
        WHERE d.kind = 'pool' OR c.kind = 'pool' GROUP BY 1, 2
    ) AS moved WHERE p.epoch = moved.epoch AND p.name = moved.name;
    RETURN NULL;
END $$;

CREATE FUNCTION note_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO batches (first_sequence, transfers) SELECT min(sequence), count(*) FROM fresh HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER post_1_routes AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION check_routes();
CREATE TRIGGER post_2_epoch AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION check_epoch();
CREATE TRIGGER post_3_balances AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION move_balances();
CREATE TRIGGER post_4_escrow AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION move_escrow();
CREATE TRIGGER post_5_pools AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION move_pools();
CREATE TRIGGER post_6_batch AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION note_batch();
