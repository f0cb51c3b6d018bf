-- Each of the last rows takes the database a moment, so that there is time to kill its reader.
SELECT s.stay_id, s.updated_at FROM stays AS s WHERE {{ window('s.updated_at') }}
AND (s.stay_id <= 3000 OR (SELECT count(*) FROM stays AS a, (VALUES (1), (2), (3), (4), (5), (6), (7), (8)) WHERE a.stay_id + s.stay_id > 0) > 0)
