-- Run by another user than the one that made the table.
ALTER TABLE orders ADD COLUMN amount integer NOT NULL DEFAULT 1;
