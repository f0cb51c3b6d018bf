SELECT id, CAST(note AS BIGINT) AS note, updated_at FROM leaky WHERE {{ window('updated_at') }}
