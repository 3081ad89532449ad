-- Booking and job ids are chosen by partners: two may choose the same ones.
ALTER TABLE routes DROP CONSTRAINT routes_pkey, ADD PRIMARY KEY (partner, booking_id, job_id);
CREATE INDEX routes_of_node ON routes (node_id, booking_id, job_id);
