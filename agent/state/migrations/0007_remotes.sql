-- Git servers elsewhere: who signs in there over https, by which keys their ssh servers are recognised, and each app's
-- own ssh key. Passwords and private keys are sealed with the key file.
CREATE TABLE logins (
    host   TEXT PRIMARY KEY,               -- with its port unless that is 443
    user   TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE host_keys (
    host   TEXT NOT NULL,                  -- with its port unless that is 22
    public TEXT NOT NULL,                  -- type and base64
    PRIMARY KEY (host, public)
) STRICT, WITHOUT ROWID;

CREATE TABLE deploy_keys (
    app        TEXT PRIMARY KEY REFERENCES apps (id),
    public     TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
