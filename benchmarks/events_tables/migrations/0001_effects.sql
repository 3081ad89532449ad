-- One row an effect, no key: an effect that happens twice would show.
CREATE TABLE effects (key text NOT NULL);
