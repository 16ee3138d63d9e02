-- `ps:set stop-first worker,clock` became `ps:set strategy.worker stop-first` and the same for clock.

WITH RECURSIVE types (app, type, rest) AS (
    SELECT app, '', value || ',' FROM properties WHERE name = 'ps.stop-first'
    UNION ALL
    SELECT app, substr(rest, 1, instr(rest, ',') - 1), substr(rest, instr(rest, ',') + 1) FROM types WHERE rest <> ''
)
INSERT INTO properties (app, name, value)
SELECT DISTINCT app, iif(type = '_all_', 'ps.strategy', 'ps.strategy.' || type), 'stop-first' FROM types WHERE type <> '';

DELETE FROM properties WHERE name = 'ps.stop-first';
