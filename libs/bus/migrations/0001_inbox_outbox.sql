-- What has come in: `key` is the sender's part of the subject and the message's id, `digest` that of the body.
CREATE TABLE inbox (
    key    text PRIMARY KEY,
    digest bytea NOT NULL,
    at     bigint NOT NULL
);
CREATE INDEX inbox_at ON inbox USING brin (at);

-- What goes out. A row is unsent until the stream has told its sequence number; rows stay, to refill a lost stream.
CREATE TABLE outbox (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL,
    subject    text NOT NULL,
    stream     text NOT NULL,
    body       bytea NOT NULL,
    headers    jsonb NOT NULL,
    at         bigint NOT NULL,
    stream_seq bigint,
    UNIQUE (message_id, subject)
);
CREATE INDEX outbox_unsent ON outbox (seq) WHERE stream_seq IS NULL;
CREATE INDEX outbox_sent ON outbox (stream, stream_seq) WHERE stream_seq IS NOT NULL;

-- The streams as last seen: one that was created at another time is another stream, and has to be filled again.
CREATE TABLE streams (
    name    text PRIMARY KEY,
    created text NOT NULL
);
