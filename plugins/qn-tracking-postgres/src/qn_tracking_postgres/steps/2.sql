-- Version 2: what was called a campaign is a study. A record of that time still says `campaign`.

ALTER TABLE experiments DROP COLUMN campaign;
ALTER TABLE experiments ADD COLUMN study text
    GENERATED ALWAYS AS (coalesce(record->'study'->>'id', record->'campaign'->>'id')) STORED;
