-- What happened, and to which handlers it is still owed.

CREATE TABLE events (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused, so `cause` and `event_id` stay true
    at    REAL NOT NULL,                      -- Unix seconds
    app   TEXT NOT NULL,                      -- app id; empty for the server's own lane
    type  TEXT NOT NULL,                      -- tag of the event
    body  BLOB NOT NULL,                      -- JSON, see proto.events
    cause INTEGER                             -- the event whose handler emitted this one
) STRICT;

-- For `events --app`.
CREATE INDEX events_of_app ON events (app, id);

-- For "has something been emitted since that ends this work?".
CREATE INDEX events_of_app_by_type ON events (app, type, id);

-- A lane is one (handler, app); its rows lie side by side in the primary key, oldest first.
CREATE TABLE deliveries (
    event_id INTEGER NOT NULL,
    handler  TEXT NOT NULL,
    app      TEXT NOT NULL,
    due_at   REAL NOT NULL,                   -- Unix seconds; not before
    attempts INTEGER NOT NULL DEFAULT 0,      -- counted before the handler runs, so that a crash counts too
    dead     TEXT,                            -- why it will not be tried again
    PRIMARY KEY (handler, app, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX dead_deliveries ON deliveries (event_id) WHERE dead IS NOT NULL;
