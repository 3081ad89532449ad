-- Who has a name. A name has one key and a key one name.
CREATE TABLE partners (
    partner       text PRIMARY KEY,
    public_key    text NOT NULL UNIQUE,
    registered_at bigint NOT NULL
);
CREATE INDEX partners_by_time ON partners (registered_at);

-- Who is shut out, since when and why; the first reason stands.
CREATE TABLE bans (
    public_key text PRIMARY KEY,
    reason     text NOT NULL,
    evidence   text NOT NULL,
    banned_at  bigint NOT NULL
);
CREATE INDEX bans_by_time ON bans (banned_at);
