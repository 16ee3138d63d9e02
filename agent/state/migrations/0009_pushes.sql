-- Images that go to a registry, one row for each release that is to be there.

CREATE TABLE pushes (
    deploy     TEXT PRIMARY KEY REFERENCES deploys (id),
    app        TEXT NOT NULL REFERENCES apps (id),
    release    INTEGER NOT NULL,
    image      TEXT NOT NULL,              -- sha256:…
    names      TEXT NOT NULL,              -- JSON, what it is to be called there; none: nobody said where
    is_awaited INTEGER NOT NULL,           -- whether the deploy waits for it, and fails with it
    status     TEXT NOT NULL CHECK (status IN ('due', 'pushed', 'failed', 'dropped')),
    reason     TEXT,                       -- why it failed, for people
    ended_at   REAL
) STRICT;

CREATE INDEX pushes_by_app ON pushes (app, release);
