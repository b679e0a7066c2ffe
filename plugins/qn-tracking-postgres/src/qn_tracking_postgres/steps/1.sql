-- Version 1. What ends in bytea is exact; everything else is made from it, for questions in SQL.
-- Rows are only ever added: whoever writes needs neither UPDATE nor DELETE.

CREATE TABLE version (
    version integer PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    by text NOT NULL DEFAULT session_user
);

-- A run as it was known before episode 0, and of a record that was pushed, as the record tells it.
CREATE TABLE runs (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
    started timestamptz,
    host text,
    environment text,
    brain text,
    family text,
    seed bigint,
    episodes_asked bigint,
    about bytea,    -- run.json
    config bytea,   -- config.yml
    inserted_by text NOT NULL DEFAULT session_user,
    inserted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE experiments (
    id text COLLATE "C" PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    document bytea NOT NULL,
    sha256 text NOT NULL GENERATED ALWAYS AS (encode(sha256(document), 'hex')) STORED,
    record jsonb NOT NULL,
    started timestamptz,
    ended timestamptz,
    status text GENERATED ALWAYS AS (record->>'status') STORED,
    environment text GENERATED ALWAYS AS (record->'subject'->>'environment') STORED,
    brain text GENERATED ALWAYS AS (record->'subject'->>'brain') STORED,
    family text GENERATED ALWAYS AS (record->'subject'->>'family') STORED,
    device text GENERATED ALWAYS AS (record->'subject'->>'device') STORED,
    config_label text GENERATED ALWAYS AS (record->'config'->>'label') STORED,
    config_digest text GENERATED ALWAYS AS (record->'config'->>'digest') STORED,
    commit text GENERATED ALWAYS AS (record->'facts'->'metadata'->'git'->>'commit') STORED,
    seed bigint GENERATED ALWAYS AS ((record->>'seed')::bigint) STORED,
    episodes bigint GENERATED ALWAYS AS ((record->'results'->>'episodes')::bigint) STORED,
    total_steps bigint GENERATED ALWAYS AS ((record->'results'->>'total_steps')::bigint) STORED,
    success_rate double precision
        GENERATED ALWAYS AS ((record->'results'->>'success_rate')::double precision) STORED,
    final_success_rate double precision
        GENERATED ALWAYS AS ((record->'results'->>'final_success_rate')::double precision) STORED,
    avg_reward double precision
        GENERATED ALWAYS AS ((record->'results'->>'avg_reward')::double precision) STORED,
    wall_seconds double precision
        GENERATED ALWAYS AS ((record->>'wall_seconds')::double precision) STORED,
    exact_digest text GENERATED ALWAYS AS (record->'digests'->>'exact') STORED,
    outcome_digest text GENERATED ALWAYS AS (record->'digests'->>'outcome') STORED,
    tags jsonb GENERATED ALWAYS AS (record->'tags') STORED,
    campaign text GENERATED ALWAYS AS (record->'campaign'->>'id') STORED,
    inserted_by text NOT NULL DEFAULT session_user,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX experiments_by_start ON experiments (started DESC NULLS LAST, id DESC);

CREATE TABLE episodes (
    id text COLLATE "C" NOT NULL REFERENCES runs ON DELETE CASCADE,
    index bigint NOT NULL CHECK (index >= 0),
    seed bigint,
    success boolean,
    termination text,
    steps bigint,
    reward double precision,
    counts jsonb NOT NULL,
    metrics jsonb NOT NULL,
    at double precision,    -- seconds since the start
    exact bytea NOT NULL,   -- what the digest is over
    timing json NOT NULL,
    PRIMARY KEY (id, index)
);

-- The texts that a record names by digest, and run.json.
CREATE TABLE files (
    id text COLLATE "C" NOT NULL REFERENCES experiments ON DELETE CASCADE,
    name text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (id, name)
);

CREATE VIEW overview AS
    SELECT e.id, e.started, r.host, e.status, e.environment, e.brain, e.family, e.config_label,
           e.seed, e.episodes, e.success_rate, e.final_success_rate, e.avg_reward, e.wall_seconds,
           e.commit, e.tags, e.inserted_by
    FROM experiments e JOIN runs r USING (id)
    ORDER BY e.started DESC NULLS LAST, e.id DESC;

-- Runs that are going on, or died and were not pushed since.
CREATE VIEW unfinished AS
    SELECT r.id, r.started, r.host, r.environment, r.brain, r.family, r.seed, r.episodes_asked,
           n.episodes, n.success_rate, r.started + n.at * interval '1 second' AS last_episode,
           r.inserted_by
    FROM runs r
    CROSS JOIN LATERAL (
        SELECT count(*) AS episodes, avg(success::int)::double precision AS success_rate,
               max(at) AS at
        FROM episodes WHERE episodes.id = r.id
    ) n
    WHERE NOT EXISTS (SELECT FROM experiments e WHERE e.id = r.id)
    ORDER BY r.started DESC NULLS LAST, r.id DESC;
