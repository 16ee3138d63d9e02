-- Pushes that git is being given: where their refs were, for the start after one that broke off. One for each app at most.

CREATE TABLE arrivals (
    app     TEXT PRIMARY KEY REFERENCES apps (id),
    updates TEXT NOT NULL                  -- JSON, what git was asked for
) STRICT, WITHOUT ROWID;
