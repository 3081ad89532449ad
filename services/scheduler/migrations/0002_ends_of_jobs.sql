-- How a job ended, for a partner who asks later: files by digest, the reason in words, and when it was submitted.
ALTER TABLE jobs
    ADD COLUMN detail       text NOT NULL DEFAULT '',
    ADD COLUMN result       jsonb,
    ADD COLUMN log          jsonb,
    ADD COLUMN refusal      jsonb,
    ADD COLUMN submitted_at bigint NOT NULL DEFAULT 0;
CREATE INDEX jobs_newest ON jobs (partner, booking_id, submitted_at DESC, job_id);
