-- Images that deploys get from registries by a name that the engine did not have: the name goes when they are done.

CREATE TABLE pulls (
    deploy    TEXT PRIMARY KEY REFERENCES deploys (id),
    app       TEXT NOT NULL REFERENCES apps (id),
    reference TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX pulls_by_app ON pulls (app);
