-- Replicas that others of the same release take the place of, when their process type is restarted.

ALTER TABLE replicas ADD COLUMN is_replaced INTEGER NOT NULL DEFAULT 0;
