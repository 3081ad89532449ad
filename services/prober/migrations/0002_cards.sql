-- How many cards a node says it has: all of them prove at the same moment. 0: its processor proves.
ALTER TABLE schedule ADD COLUMN cards integer NOT NULL DEFAULT 0;
