-- Tasks of deploys, and the status of a deploy whose tasks run before its replicas start.

CREATE TABLE tasks (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order in which the tasks of a deploy run
    id         TEXT NOT NULL UNIQUE,                -- a label of its container
    app        TEXT NOT NULL REFERENCES apps (id),
    deploy     TEXT NOT NULL REFERENCES deploys (id),
    release    INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('predeploy', 'release', 'setup', 'postdeploy')),
    command    TEXT NOT NULL,                       -- as Procfile or app.json have it
    status     TEXT NOT NULL CHECK (status IN ('intended', 'started', 'ended')),
    exit_code  INTEGER,
    reason     TEXT,                                -- why it did not succeed, for people; NULL: it did, or has not ended
    planned_at REAL NOT NULL,
    started_at REAL,                                -- when its container was about to be started, once and for all
    ended_at   REAL,
    UNIQUE (deploy, kind)
) STRICT;

CREATE INDEX tasks_by_app ON tasks (app, number);
CREATE INDEX tasks_unfinished ON tasks (app) WHERE ended_at IS NULL;

-- SQLite changes no CHECK: the table is made anew (https://www.sqlite.org/lang_altertable.html, 7).
CREATE TABLE new_deploys (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of acceptance
    id            TEXT NOT NULL UNIQUE,
    app           TEXT NOT NULL REFERENCES apps (id),
    kind          TEXT NOT NULL CHECK (kind IN ('push', 'rebuild', 'image', 'config', 'restart', 'rollback')),
    status        TEXT NOT NULL CHECK (status IN ('accepted', 'building', 'built', 'releasing', 'starting', 'switching',
                                                  'live', 'failed', 'cancelled', 'superseded')),
    commit_id     TEXT,
    image         TEXT,                    -- what to get (kind image), then sha256:… once built
    plan          BLOB,                    -- JSON of state.plans.Plan, once built
    from_release  INTEGER,                 -- rollback: the release whose image comes back
    is_code_only  INTEGER NOT NULL DEFAULT 0,
    release       INTEGER,
    by            TEXT NOT NULL,
    why           TEXT NOT NULL,
    stage         TEXT,                    -- where it failed
    reason        TEXT,                    -- why it failed, for people
    created_at    REAL NOT NULL,
    switching_at  REAL,
    ended_at      REAL
) STRICT;

INSERT INTO new_deploys
SELECT number, id, app, kind, status, commit_id, image, plan, from_release, is_code_only, release, by, why, stage,
       reason, created_at, switching_at, ended_at
FROM deploys;

DROP TABLE deploys;
ALTER TABLE new_deploys RENAME TO deploys;

CREATE INDEX deploys_by_app ON deploys (app, number);
CREATE INDEX deploys_under_way ON deploys (app) WHERE ended_at IS NULL;
