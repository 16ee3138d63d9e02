-- Secret properties (build arguments) are sealed with the key file, as config is; their `value` is empty then. SQL cannot
-- seal, so the agent does it for rows that an older one left, right after this (lifecycle.properties.seal_stored).
ALTER TABLE properties ADD COLUMN sealed BLOB;
