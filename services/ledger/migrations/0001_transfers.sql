-- Accounts and the transfers between them: double entry in integers, append-only, chained by hash.
-- What must not go wrong is refused here, whoever writes. The invariants of the ledger, and where each is kept:
--   I1  per asset, debits = credits            one row moves both sides (0004 posted); the assets of both must agree
--   I2  wallets, escrow, pools, pay >= 0       CHECK on accounts
--   I3  a balance is the sum of its transfers  only the trigger of transfers moves a balance
--   I4  an event moves money once              primary key; another body under the same id is refused
--   I5  transfers are append-only              triggers and revoked rights
--   I6  escrowed = fee + burned + refunded + remaining, 0 when the booking has ended   CHECK on bookings (0002)
--   I7  hash chain over all transfers          made at commit by a deferred trigger; heads are published
--   I8  an epoch pays at most its emission and what was carried over                   CHECK on pools (0003)
--   I9  integers, overflow refused             bigint, CHECK on amounts and balances
--   I10 no money moves unsaid                  at commit, the event that each transfer names stands in the outbox
-- audit.py checks all of them again, from the first transfer on, and shares no code with what posts.

-- ---------------------------------------------------------------- words

CREATE TABLE account_kinds (
    kind            text PRIMARY KEY,
    asset           text    NOT NULL CHECK (asset IN ('USD', 'RENDER', 'COUPON')),
    allow_negative  boolean NOT NULL,
    UNIQUE (kind, asset, allow_negative)
);

INSERT INTO account_kinds (kind, asset, allow_negative) VALUES
    ('bank',          'USD',    true),   -- the world outside: what partners have paid in
    ('wallet',        'USD',    false),  -- a partner's money
    ('escrow',        'USD',    false),  -- what one booking may still cost
    ('fee',           'USD',    false),  -- the network's 5 %
    ('usd_market',    'USD',    false),  -- the 95 % that bought RENDER
    ('render_market', 'RENDER', true),   -- RENDER in circulation outside this ledger, which the market sells
    ('burned',        'RENDER', false),
    ('render_mint',   'RENDER', true),   -- minus what was ever emitted here
    ('pool',          'RENDER', false),  -- what an epoch may pay: pool:job/7, pool:availability/7
    ('reserve',       'RENDER', false),  -- pools nobody earned, carried over: reserve:job, reserve:availability
    ('pay',           'RENDER', false),  -- a node's earnings
    ('coupon_mint',   'COUPON', true),
    ('coupon',        'COUPON', false);  -- a node's coupons of one epoch: coupon:U…/7

-- The only ways value may flow. Escrow moves by hold, post and void alone.
CREATE TABLE routes (
    kind         text NOT NULL CHECK (kind IN ('hold', 'post', 'void', 'plain')),
    debit_kind   text NOT NULL REFERENCES account_kinds (kind),
    credit_kind  text NOT NULL REFERENCES account_kinds (kind),
    PRIMARY KEY (kind, debit_kind, credit_kind)
);

INSERT INTO routes (kind, debit_kind, credit_kind) VALUES
    ('plain', 'bank',          'wallet'),
    ('hold',  'wallet',        'escrow'),
    ('post',  'escrow',        'fee'),
    ('post',  'escrow',        'usd_market'),
    ('void',  'escrow',        'wallet'),
    ('plain', 'render_market', 'burned'),
    ('plain', 'coupon_mint',   'coupon'),
    ('plain', 'render_mint',   'pool'),
    ('plain', 'reserve',       'pool'),
    ('plain', 'pool',          'pay'),
    ('plain', 'pool',          'reserve');

-- ---------------------------------------------------------------- accounts

CREATE TABLE accounts (
    id              text PRIMARY KEY,
    kind            text    NOT NULL,
    asset           text    NOT NULL,
    allow_negative  boolean NOT NULL,
    owner           text    NOT NULL DEFAULT '',  -- partner, node, or the name of a pool
    scope           text    NOT NULL DEFAULT '',  -- booking or epoch
    balance         bigint  NOT NULL DEFAULT 0,
    opened_at       bigint  NOT NULL,
    FOREIGN KEY (kind, asset, allow_negative) REFERENCES account_kinds (kind, asset, allow_negative),
    CONSTRAINT i3_account_id_says_what_it_is CHECK (
        id = kind || CASE owner WHEN '' THEN '' ELSE ':' || owner END || CASE scope WHEN '' THEN '' ELSE '/' || scope END
    ),
    CONSTRAINT account_id_is_plain CHECK (owner ~ '^[A-Za-z0-9_-]{0,64}$' AND scope ~ '^[A-Za-z0-9_-]{0,64}$'),
    CONSTRAINT i2_balance_not_negative CHECK (allow_negative OR balance >= 0),
    CONSTRAINT i9_balance_in_range CHECK (balance BETWEEN -999999999999999999 AND 999999999999999999)
);

INSERT INTO accounts (id, kind, asset, allow_negative, opened_at)
SELECT kind, kind, asset, allow_negative, 0 FROM account_kinds
WHERE kind IN ('bank', 'fee', 'usd_market', 'render_market', 'burned', 'render_mint', 'coupon_mint');

INSERT INTO accounts (id, kind, asset, allow_negative, owner, opened_at) VALUES
    ('reserve:job', 'reserve', 'RENDER', false, 'job', 0),
    ('reserve:availability', 'reserve', 'RENDER', false, 'availability', 0);

-- ---------------------------------------------------------------- transfers

CREATE TABLE transfers (
    id        text   PRIMARY KEY,              -- derived from what it is for, so a repeat makes the same id
    sequence  bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    debit     text   NOT NULL,                 -- the account it leaves
    credit    text   NOT NULL,                 -- the account it reaches
    asset     text   NOT NULL,
    amount    bigint NOT NULL,
    kind      text   NOT NULL,
    partner   text   NOT NULL DEFAULT '',
    booking   text   NOT NULL DEFAULT '',
    lease     text   NOT NULL DEFAULT '',
    epoch     bigint NOT NULL,                 -- the epoch that was running
    cause     text   NOT NULL,                 -- id of the message that brought it about
    event     text   NOT NULL,                 -- id of the event that tells of it (I10)
    at        bigint NOT NULL,                 -- Unix milliseconds
    -- What a repeat under the same id must agree with (I4). The cast to bytea is exact: there is no backslash.
    body      bytea  NOT NULL GENERATED ALWAYS AS (sha256((
        id || '|' || debit || '|' || credit || '|' || asset || '|' || amount::text || '|' || kind
        || '|' || partner || '|' || booking || '|' || lease)::bytea)) STORED,
    CONSTRAINT i9_amount_in_range CHECK (amount > 0 AND amount <= 999999999999999999),
    CONSTRAINT i1_transfer_moves CHECK (debit <> credit),
    CONSTRAINT i7_transfer_fields_are_plain CHECK (
        (id || debit || credit || asset || kind || partner || booking || lease || cause || event) ~ '^[A-Za-z0-9_./:~-]+$'
        AND id <> '' AND cause <> '' AND event <> '' AND length(id) <= 300
    ),
    CONSTRAINT i6_escrow_names_its_booking CHECK (kind = 'plain' OR (partner <> '' AND booking <> '')),
    CONSTRAINT i6_post_names_its_lease CHECK (kind <> 'post' OR lease <> '')
);
CREATE INDEX transfers_of_booking ON transfers (partner, booking) WHERE booking <> '';

-- One row for each statement that inserted transfers: its trigger chains them when the transaction commits.
CREATE TABLE batches (
    number          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_sequence  bigint NOT NULL,
    transfers       bigint NOT NULL CHECK (transfers > 0)
);

-- The hash chain: heights without a gap, in the order of the commits.
CREATE TABLE links (
    height    bigint PRIMARY KEY CHECK (height > 0),
    sequence  bigint NOT NULL UNIQUE,
    hash      bytea  NOT NULL CHECK (length(hash) = 32)
);

-- Heads that were published: what anyone outside has seen and can hold against us.
CREATE TABLE heads (
    height  bigint PRIMARY KEY,
    hash    bytea  NOT NULL,
    at      bigint NOT NULL
);

-- ---------------------------------------------------------------- refusals

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER i5_transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I5: transfers are append-only');
CREATE TRIGGER i5_batches_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I5: batches are append-only');
CREATE TRIGGER i7_links_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON links
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I7: the hash chain is append-only');
CREATE TRIGGER i7_heads_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I7: published heads are append-only');
CREATE TRIGGER accounts_stay BEFORE DELETE OR TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I3: an account is never removed');
-- A later migration that adds a kind or a route says so: it disables this trigger, and enables it again.
CREATE TRIGGER kinds_stay BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON account_kinds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I1: account kinds do not change');
CREATE TRIGGER routes_stay BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON routes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('I1: routes do not change');

-- pg_trigger_depth() is 0 where a person or a service writes, and more inside the triggers below.
CREATE TRIGGER i3_account_opens_empty BEFORE INSERT ON accounts FOR EACH ROW
    WHEN (NEW.balance <> 0) EXECUTE FUNCTION refuse('I3: an account opens empty');
CREATE TRIGGER i3_balance_follows_transfers BEFORE UPDATE ON accounts FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse('I3: a balance moves by a transfer alone');
CREATE TRIGGER i5_batches_by_transfers BEFORE INSERT ON batches FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse('I5: a batch is made by its transfers');
CREATE TRIGGER i7_links_by_transfers BEFORE INSERT ON links FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse('I7: a link is made by its transfer');

REVOKE UPDATE, DELETE, TRUNCATE ON transfers, batches, links, heads FROM PUBLIC, CURRENT_USER;

-- ---------------------------------------------------------------- the hash chain, once for each batch

-- Runs at commit. The lock is held from here to the end of the commit only, so that transactions overlap until then.
-- Every committed transfer has its link: what is visible and has none is this transaction's own.
CREATE FUNCTION chain_transfers() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    t record; h bigint; head bytea;
    heights bigint[] := '{}'; sequences bigint[] := '{}'; hashes bytea[] := '{}'; untold text;
BEGIN
    -- The first batch of a transaction has chained those after it.
    IF EXISTS (SELECT FROM links WHERE sequence = NEW.first_sequence) THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger.chain', 0));
    SELECT height, hash INTO h, head FROM links ORDER BY height DESC LIMIT 1;
    IF h IS NULL THEN
        h := 0; head := sha256('bivouac ledger');
    END IF;
    FOR t IN SELECT * FROM transfers AS f WHERE f.sequence >= NEW.first_sequence
             AND NOT EXISTS (SELECT FROM links AS l WHERE l.sequence = f.sequence) ORDER BY f.sequence
    LOOP
        h := h + 1;
        head := sha256(head || convert_to(concat_ws('|', t.id, t.debit, t.credit, t.asset, t.amount, t.kind,
            t.partner, t.booking, t.lease, t.epoch, t.cause, t.event, t.at), 'UTF8'));
        heights := heights || h; sequences := sequences || t.sequence; hashes := hashes || head;
    END LOOP;
    INSERT INTO links (height, sequence, hash) SELECT * FROM unnest(heights, sequences, hashes);
    SELECT f.event INTO untold FROM transfers AS f WHERE f.sequence = ANY (sequences)
        AND NOT EXISTS (SELECT FROM outbox AS o WHERE o.message_id = f.event) LIMIT 1;
    IF untold IS NOT NULL THEN
        RAISE EXCEPTION 'I10: no outbox row tells of event %', untold USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER i7_chained_at_commit AFTER INSERT ON batches
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chain_transfers();
