-- Facts of the server: the instance id, the address cursor, a check value for the key file.
CREATE TABLE server (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE apps (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    created_at   REAL NOT NULL,            -- Unix seconds, as every *_at
    created_by   TEXT NOT NULL,
    live_release INTEGER,                  -- NULL: nothing was ever live
    next_release INTEGER NOT NULL DEFAULT 1,
    is_stopped   INTEGER NOT NULL DEFAULT 0,
    destroyed_at REAL                      -- the row stays until nothing of the app is left
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX apps_by_name ON apps (name) WHERE destroyed_at IS NULL;

-- What `<noun>:set` sets. The app '' is the server.
CREATE TABLE properties (
    app   TEXT NOT NULL,
    name  TEXT NOT NULL,                   -- noun.property: git.deploy-branch
    value TEXT NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE scales (
    app      TEXT NOT NULL REFERENCES apps (id),
    process  TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (app, process)
) STRICT, WITHOUT ROWID;

-- Config, sealed with the key file. Release 0 is the draft; the app '' is the server's own config.
CREATE TABLE configs (
    app     TEXT NOT NULL,
    release INTEGER NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (app, release)
) STRICT, WITHOUT ROWID;

CREATE TABLE domains (
    domain   TEXT PRIMARY KEY,
    app      TEXT NOT NULL REFERENCES apps (id),
    added_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX domains_by_app ON domains (app);

CREATE TABLE global_domains (
    domain   TEXT PRIMARY KEY,
    added_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deploys (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of acceptance
    id            TEXT NOT NULL UNIQUE,
    app           TEXT NOT NULL REFERENCES apps (id),
    kind          TEXT NOT NULL CHECK (kind IN ('push', 'rebuild', 'image', 'config', 'restart', 'rollback')),
    status        TEXT NOT NULL CHECK (status IN ('accepted', 'building', 'built', 'starting', 'switching',
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

CREATE INDEX deploys_by_app ON deploys (app, number);
CREATE INDEX deploys_under_way ON deploys (app) WHERE ended_at IS NULL;

CREATE TABLE releases (
    app        TEXT NOT NULL REFERENCES apps (id),
    version    INTEGER NOT NULL,
    deploy     TEXT NOT NULL REFERENCES deploys (id),
    image      TEXT NOT NULL,              -- sha256:…
    plan       BLOB NOT NULL,              -- JSON of state.plans.Plan
    commit_id  TEXT,
    by         TEXT NOT NULL,
    why        TEXT NOT NULL,
    created_at REAL NOT NULL,
    live_at    REAL,                       -- NULL: never served
    is_image_kept INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (app, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE replicas (
    id          TEXT PRIMARY KEY,
    app         TEXT NOT NULL REFERENCES apps (id),
    release     INTEGER NOT NULL,
    process     TEXT NOT NULL,
    number      INTEGER NOT NULL,          -- from 1 within its process type
    bridge      INTEGER NOT NULL,
    address     TEXT NOT NULL UNIQUE,      -- IPv4, the replica's own for its whole life
    port        INTEGER NOT NULL,          -- where it serves; 0: it does not
    state       TEXT NOT NULL CHECK (state IN ('planned', 'started', 'ready', 'draining', 'stopping')),
    container   TEXT,
    planned_at  REAL NOT NULL,
    started_at  REAL,
    ready_at    REAL,
    losses      INTEGER NOT NULL DEFAULT 0,
    retry_at    REAL NOT NULL DEFAULT 0,   -- not to be started again before
    drain_until REAL                       -- stopped then, whoever is still connected
) STRICT, WITHOUT ROWID;

CREATE INDEX replicas_by_app ON replicas (app);

-- Addresses of removed replicas, so that no stale route can reach a stranger.
CREATE TABLE cooling_addresses (
    address TEXT PRIMARY KEY,
    until   REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    fingerprint TEXT PRIMARY KEY COLLATE BINARY,
    name        TEXT NOT NULL UNIQUE,
    public      TEXT NOT NULL,             -- one line, OpenSSH format
    added_at    REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Who asked for what. Names of commands and apps, never values.
CREATE TABLE invocations (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          REAL NOT NULL,
    user        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    command     TEXT NOT NULL,
    app         TEXT,
    status      INTEGER NOT NULL
) STRICT;
