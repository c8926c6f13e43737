-- Revision 0010; made by tests/storage/schema_dump.py.
SET search_path = optuna;
CREATE SCHEMA IF NOT EXISTS ropewalk;
CREATE TABLE ropewalk.alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE ropewalk.jobs (
    id text CONSTRAINT pk_jobs PRIMARY KEY,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    spec_json text NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    parent_id text CONSTRAINT fk_jobs_parent_id REFERENCES ropewalk.jobs (id),
    request text NOT NULL DEFAULT 'none',
    progress jsonb NOT NULL DEFAULT '{}',
    result_json text,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    lease_owner text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT ck_jobs_state_of_kind CHECK (
        (kind = 'search' AND state IN ('cancelled', 'cancelling', 'failed', 'finetuning', 'paused', 'preparing',
                                       'queued', 'searching', 'succeeded', 'validating'))
        OR (kind = 'finetune' AND state IN ('cancelled', 'cancelling', 'evaluating', 'failed', 'paused', 'preparing',
                                            'queued', 'succeeded', 'training'))
        OR (kind = 'evaluation' AND state IN ('cancelled', 'cancelling', 'evaluating', 'failed', 'paused',
                                              'preparing', 'queued', 'succeeded'))
    ),
    CONSTRAINT ck_jobs_request CHECK (request IN ('none', 'cancel', 'pause')),
    CONSTRAINT ck_jobs_finished_when_final CHECK (
        (finished_at IS NOT NULL) = (state IN ('cancelled', 'failed', 'succeeded'))
    ),
    CONSTRAINT ck_jobs_lease_whole CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL)),
    CONSTRAINT ck_jobs_lease_when_in_hands CHECK (
        lease_owner IS NULL OR state NOT IN ('cancelled', 'failed', 'finetuning', 'paused', 'succeeded')
    ),
    CONSTRAINT ck_jobs_error_when_failed CHECK ((error_code IS NOT NULL) = (state = 'failed')),
    CONSTRAINT ck_jobs_error_whole CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CONSTRAINT ck_jobs_cancelling_when_requested CHECK (state <> 'cancelling' OR request = 'cancel'),
    CONSTRAINT ck_jobs_request_when_active CHECK (
        request = 'none' OR state NOT IN ('cancelled', 'failed', 'paused', 'queued', 'succeeded')
    ),
    CONSTRAINT ck_jobs_parent_of_finetune CHECK (parent_id IS NULL OR kind = 'finetune'),
    CONSTRAINT ck_jobs_objects CHECK (jsonb_typeof(labels) = 'object' AND jsonb_typeof(progress) = 'object'),
    CONSTRAINT ck_jobs_counters CHECK (lease_epoch >= 0 AND version >= 1)
);
CREATE INDEX ix_jobs_kind_created_at_id ON ropewalk.jobs (kind, created_at DESC, id DESC);
CREATE INDEX ix_jobs_labels ON ropewalk.jobs USING gin (labels);
CREATE INDEX ix_jobs_claimable ON ropewalk.jobs (created_at, id)
WHERE state NOT IN ('cancelled', 'failed', 'finetuning', 'paused', 'succeeded');
CREATE UNIQUE INDEX uq_jobs_live_child ON ropewalk.jobs (parent_id)
WHERE parent_id IS NOT NULL AND state NOT IN ('cancelled', 'failed', 'succeeded');
CREATE TABLE ropewalk.document_scores (
    job_id text CONSTRAINT fk_document_scores_job_id REFERENCES ropewalk.jobs (id),
    split text,
    trial integer,
    document_id text,
    nats double precision NOT NULL,
    tokens integer NOT NULL,
    exact boolean NOT NULL,
    worker text NOT NULL,
    attempts integer NOT NULL,
    seconds double precision NOT NULL,
    lease_epoch bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_document_scores PRIMARY KEY (job_id, split, trial, document_id),
    CONSTRAINT ck_document_scores_nats CHECK (nats >= -0.001 AND nats < 'Infinity'),
    CONSTRAINT ck_document_scores_tokens CHECK (tokens > 0),
    CONSTRAINT ck_document_scores_key CHECK (trial >= 0 AND split <> '' AND document_id <> ''),
    CONSTRAINT ck_document_scores_effort CHECK (attempts >= 1 AND seconds >= 0 AND seconds < 'Infinity')
);
CREATE TABLE ropewalk.events (
    id bigserial CONSTRAINT pk_events PRIMARY KEY,
    job_id text NOT NULL CONSTRAINT fk_events_job_id REFERENCES ropewalk.jobs (id),
    type text NOT NULL,
    data_json text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_events_type CHECK (type <> '')
);
CREATE INDEX ix_events_job_id_id ON ropewalk.events (job_id, id);
CREATE TABLE ropewalk.idempotency_keys (
    principal text,
    key text,
    request_hash text NOT NULL,
    job_id text NOT NULL CONSTRAINT fk_idempotency_keys_job_id REFERENCES ropewalk.jobs (id)
        DEFERRABLE INITIALLY DEFERRED,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (principal, key),
    CONSTRAINT ck_idempotency_keys_given CHECK (key <> '' AND request_hash <> '')
);
CREATE TABLE ropewalk.api_keys (
    id text CONSTRAINT pk_api_keys PRIMARY KEY,
    name text NOT NULL,
    scopes text[] NOT NULL,
    salt bytea NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    CONSTRAINT ck_api_keys_scopes CHECK (
        cardinality(scopes) > 0 AND scopes <@ ARRAY['admin', 'read', 'submit', 'worker']::text[]
    ),
    CONSTRAINT ck_api_keys_name CHECK (name <> ''),
    CONSTRAINT ck_api_keys_hashed CHECK (octet_length(salt) >= 16 AND octet_length(secret_hash) >= 32)
);
CREATE TABLE ropewalk.artifacts (
    job_id text CONSTRAINT fk_artifacts_job_id REFERENCES ropewalk.jobs (id),
    name text,
    path text NOT NULL,
    media_type text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_artifacts PRIMARY KEY (job_id, name),
    CONSTRAINT ck_artifacts_bytes CHECK (bytes >= 0),
    CONSTRAINT ck_artifacts_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE FUNCTION ropewalk.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are only ever added, but got %', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ropewalk.document_scores FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ropewalk.events FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change();
ALTER TABLE ropewalk.document_scores
    ADD COLUMN scorer text NOT NULL DEFAULT '',
    ADD CONSTRAINT ck_document_scores_scorer CHECK (scorer ~ '^([0-9a-f]{16})?$');
ALTER TABLE ropewalk.document_scores
    ADD COLUMN gradient double precision[],
    ADD CONSTRAINT ck_document_scores_gradient CHECK (
        cardinality(gradient) > 1 AND array_position(gradient, NULL) IS NULL
        AND '-Infinity' < ALL (gradient) AND 'Infinity' > ALL (gradient)
    );
CREATE TABLE ropewalk.score_cache (
    key bytea CONSTRAINT pk_score_cache PRIMARY KEY,
    nats double precision NOT NULL,
    tokens integer NOT NULL,
    exact boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_score_cache_key CHECK (octet_length(key) = 32),
    CONSTRAINT ck_score_cache_nats CHECK (nats >= -0.001 AND nats < 'Infinity'),
    CONSTRAINT ck_score_cache_tokens CHECK (tokens > 0)
);
CREATE TRIGGER unchangeable BEFORE UPDATE ON ropewalk.score_cache
FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change();
ALTER TABLE ropewalk.jobs
    ADD COLUMN conditions jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN retry_at timestamptz,
    ADD CONSTRAINT ck_jobs_conditions CHECK (jsonb_typeof(conditions) = 'object'),
    ADD CONSTRAINT ck_jobs_failures CHECK (failures >= 0),
    ADD CONSTRAINT ck_jobs_retry_when_free CHECK (
        retry_at IS NULL
        OR (lease_owner IS NULL AND state NOT IN ('cancelled', 'failed', 'finetuning', 'paused', 'succeeded'))
    );
CREATE INDEX ix_events_counted ON ropewalk.events (type, job_id, id)
WHERE type IN ('infrastructure.failed', 'job.created', 'job.taken_over', 'state.changed', 'trial.failed');
DROP TABLE ropewalk.artifacts;
CREATE TABLE ropewalk.audit (
    id bigserial CONSTRAINT pk_audit PRIMARY KEY,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    data_json text NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_audit_given CHECK (actor <> '' AND action <> '' AND subject <> '')
);
CREATE INDEX ix_audit_subject_id ON ropewalk.audit (subject, id);
CREATE UNIQUE INDEX uq_audit_deleted ON ropewalk.audit (subject) WHERE action = 'job.deleted';
CREATE TABLE ropewalk.tallies (
    name text,
    kind text,
    label text,
    times bigint NOT NULL,
    seconds double precision NOT NULL,
    CONSTRAINT pk_tallies PRIMARY KEY (name, kind, label),
    CONSTRAINT ck_tallies_counts CHECK (times >= 0 AND seconds >= 0)
);
CREATE FUNCTION ropewalk.refuse_unrecorded_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT job_id FROM gone) AS jobs
        WHERE NOT EXISTS (SELECT FROM ropewalk.audit WHERE action = 'job.deleted' AND subject = jobs.job_id)
    ) THEN
        RAISE EXCEPTION 'rows of %.% go only with their job, whose deletion is recorded first, but got %',
            TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
ALTER TABLE ropewalk.jobs DROP CONSTRAINT fk_jobs_parent_id;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ropewalk.audit FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change();
DROP TRIGGER append_only ON ropewalk.document_scores;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON ropewalk.document_scores FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change();
CREATE TRIGGER kept_with_its_job AFTER DELETE ON ropewalk.document_scores REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_unrecorded_deletion();
DROP TRIGGER append_only ON ropewalk.events;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON ropewalk.events FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change();
CREATE TRIGGER kept_with_its_job AFTER DELETE ON ropewalk.events REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_unrecorded_deletion();
ALTER TABLE ropewalk.jobs ADD COLUMN owner text;
CREATE TABLE ropewalk.webhooks (
    id text CONSTRAINT pk_webhooks PRIMARY KEY,
    owner text NOT NULL,
    every_job boolean NOT NULL,
    url text NOT NULL,
    states text[] NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT ck_webhooks_given CHECK (owner <> '' AND url <> '' AND cardinality(states) > 0),
    CONSTRAINT ck_webhooks_secret CHECK (octet_length(secret) >= 24)
);
CREATE TABLE ropewalk.deliveries (
    id bigserial CONSTRAINT pk_deliveries PRIMARY KEY,
    webhook_id text NOT NULL CONSTRAINT fk_deliveries_webhook_id REFERENCES ropewalk.webhooks (id),
    job_id text NOT NULL,
    event_id bigint NOT NULL,
    state text NOT NULL,
    previous_state text,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz DEFAULT clock_timestamp(),
    ended_at timestamptz,
    delivered boolean,
    status integer,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_deliveries_attempts CHECK (attempts >= 0),
    CONSTRAINT ck_deliveries_ended CHECK (
        (ended_at IS NULL) = (due_at IS NOT NULL) AND (ended_at IS NULL) = (delivered IS NULL)
    )
);
CREATE INDEX ix_deliveries_due_at ON ropewalk.deliveries (due_at) WHERE ended_at IS NULL;
CREATE INDEX ix_deliveries_webhook_id_id ON ropewalk.deliveries (webhook_id, id);
CREATE INDEX ix_deliveries_job_id ON ropewalk.deliveries (job_id);
CREATE FUNCTION ropewalk.follow_state() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told jsonb := CAST(NEW.data_json AS jsonb);
    owned text;
BEGIN
    IF NEW.type = 'job.created' THEN
        UPDATE ropewalk.jobs AS child
        SET owner = coalesce(told->>'creator', (SELECT owner FROM ropewalk.jobs WHERE id = child.parent_id))
        WHERE id = NEW.job_id AND owner IS NULL;
    END IF;
    SELECT owner INTO owned FROM ropewalk.jobs WHERE id = NEW.job_id;
    INSERT INTO ropewalk.deliveries (webhook_id, job_id, event_id, state, previous_state)
    SELECT id, NEW.job_id, NEW.id, coalesce(told->>'to', 'queued'), told->>'from'
    FROM ropewalk.webhooks
    WHERE ended_at IS NULL AND (every_job OR owner = owned) AND coalesce(told->>'to', 'queued') = ANY (states);
    RETURN NULL;
END $$;
CREATE TRIGGER follow_state AFTER INSERT ON ropewalk.events
FOR EACH ROW WHEN (NEW.type IN ('job.created', 'state.changed')) EXECUTE FUNCTION ropewalk.follow_state();
ALTER TABLE ropewalk.jobs
    ADD COLUMN priority integer NOT NULL DEFAULT 0,
    ADD COLUMN workers integer NOT NULL DEFAULT 1,
    ADD CONSTRAINT ck_jobs_priority CHECK (priority BETWEEN -100 AND 100),
    ADD CONSTRAINT ck_jobs_workers CHECK (workers >= 1);
CREATE INDEX ix_jobs_owner_kind_created_at_id ON ropewalk.jobs (owner, kind, created_at DESC, id DESC);
CREATE TABLE ropewalk.owner_limits (
    owner text CONSTRAINT pk_owner_limits PRIMARY KEY,
    running_jobs integer,
    workers integer,
    stored_bytes bigint,
    CONSTRAINT ck_owner_limits_given CHECK (
        owner <> '' AND coalesce(running_jobs, 1) >= 1 AND coalesce(workers, 1) >= 1 AND coalesce(stored_bytes, 0) >= 0
    )
);
ALTER TABLE ropewalk.api_keys
    DROP CONSTRAINT ck_api_keys_scopes,
    ADD CONSTRAINT ck_api_keys_scopes CHECK (
        cardinality(scopes) > 0 AND scopes <@ ARRAY['admin', 'own', 'read', 'submit', 'worker']::text[]
    );
ALTER TABLE ropewalk.api_keys
    ADD COLUMN owner text,
    ADD CONSTRAINT ck_api_keys_owner CHECK (owner <> '' AND owner NOT IN ('*', 'local', 'nobody') AND owner !~ '^key:');
CREATE TABLE ropewalk.job_files (
    job_id text CONSTRAINT fk_job_files_job_id REFERENCES ropewalk.jobs (id) ON DELETE CASCADE,
    name text,
    key text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_job_files PRIMARY KEY (job_id, name),
    CONSTRAINT ck_job_files_given CHECK (name <> '' AND key <> '' AND bytes >= 0),
    CONSTRAINT ck_job_files_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE SCHEMA optuna;
CREATE TYPE studydirection AS ENUM ('NOT_SET', 'MINIMIZE', 'MAXIMIZE');
CREATE TYPE trialstate AS ENUM ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING');
CREATE TYPE trialvaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG');
CREATE TYPE trialintermediatevaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG', 'NAN');
CREATE TABLE studies (
	study_id SERIAL NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
CREATE TABLE study_directions (
	study_direction_id SERIAL NOT NULL, 
	direction studydirection NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id SERIAL NOT NULL, 
	study_id INTEGER, 
	key VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, key), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_system_attributes (
	study_system_attribute_id SERIAL NOT NULL, 
	study_id INTEGER, 
	key VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, key), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trials (
	trial_id SERIAL NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state trialstate NOT NULL, 
	datetime_start TIMESTAMP WITHOUT TIME ZONE, 
	datetime_complete TIMESTAMP WITHOUT TIME ZONE, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id SERIAL NOT NULL, 
	trial_id INTEGER, 
	key VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, key), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id SERIAL NOT NULL, 
	trial_id INTEGER, 
	key VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, key), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id SERIAL NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT(53), 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_values (
	trial_value_id SERIAL NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT(53), 
	value_type trialvaluetype NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id SERIAL NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT(53), 
	intermediate_value_type trialintermediatevaluetype NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id SERIAL NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat TIMESTAMP WITHOUT TIME ZONE NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE optuna.alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO ropewalk.alembic_version VALUES ('0010');
INSERT INTO ropewalk.jobs VALUES ('ft_01m7zv2x5e0000000000000002', 'finetune', 'queued', '{}', '{}', 'srch_01m7zv2x5e0000000000000001', 'none', '{}', NULL, NULL, NULL, '2026-11-21 09:00:00.123456+00', '2026-11-26 18:20:43.433759+00', NULL, NULL, NULL, '0', NULL, '1', '{}', '1', NULL, NULL, '0', '1');
INSERT INTO ropewalk.jobs VALUES ('srch_01m7zv2x5e0000000000000001', 'search', 'finetuning', '{"model": "pocket", "target_length": 1024, "finetune": {"steps": 60}}', '{"team": "nlp"}', NULL, 'none', '{"stage": "validating", "trials": 2, "best_nll": 0.25, "document_passes": 2}', '{"verdict": "beats_best_baseline"}', NULL, NULL, '2026-11-21 09:00:00.123456+00', '2026-11-26 18:20:43.42786+00', '2026-11-21 09:00:00.123456+00', NULL, NULL, '2', NULL, '9', '{"Progressing": {"reason": "FineTuning", "status": false, "message": "waits", "changed_at": "2026-11-21 09:00:00.123456+00"}}', '0', NULL, NULL, '0', '1');
INSERT INTO ropewalk.document_scores VALUES ('srch_01m7zv2x5e0000000000000001', 'search', '0', 'search-0-1024-0', '3.5', '7', 'false', 'host:1', '1', '0.125', '1', '2026-11-21 09:00:00.123456+00', '0123456789abcdef', NULL);
INSERT INTO ropewalk.document_scores VALUES ('srch_01m7zv2x5e0000000000000001', 'search', '1', 'search-0-1024-0', '1.75', '7', 'true', 'host:1', '1', '0.125', '1', '2026-11-21 09:00:00.123456+00', '0123456789abcdef', NULL);
INSERT INTO ropewalk.events VALUES ('1', 'srch_01m7zv2x5e0000000000000001', 'job.created', '{"kind":"search"}', '2026-11-21 09:00:00.123456+00');
INSERT INTO ropewalk.idempotency_keys VALUES ('alice', 'k', 'search:00', 'srch_01m7zv2x5e0000000000000001', '2026-11-26 18:20:43.462238+00');
INSERT INTO ropewalk.api_keys VALUES ('0123456789', 'alice', '{read,submit}', E'\\x0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', E'\\x0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', '2026-11-26 18:20:43.465454+00', NULL, NULL);
INSERT INTO ropewalk.score_cache VALUES (E'\\x0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f', '1.75', '7', 'true', '2026-11-21 09:00:00.123456+00');
INSERT INTO ropewalk.job_files VALUES ('srch_01m7zv2x5e0000000000000001', 'factors.json', 'srch_01m7zv2x5e0000000000000001/factors.json', '3', '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f', '2026-11-21 09:00:00.123456+00');
INSERT INTO optuna.studies VALUES ('1', 'srch_01m7zv2x5e0000000000000001');
INSERT INTO optuna.version_info VALUES ('1', '12', '5.0.0');
INSERT INTO optuna.study_directions VALUES ('1', 'MINIMIZE', '1', '0');
INSERT INTO optuna.study_user_attributes VALUES ('1', '1', 'model', '"pocket"');
INSERT INTO optuna.study_user_attributes VALUES ('2', '1', 'target_length', '1024');
INSERT INTO optuna.study_system_attributes VALUES ('1', '1', 'ropewalk:step:00000', '{"candidates": 2, "documents": [0], "extend": [], "prune": [], "keep_open": false, "gradients": false}');
INSERT INTO optuna.trials VALUES ('1', '0', '1', 'PRUNED', NULL, '2026-11-26 18:20:43.675823');
INSERT INTO optuna.trials VALUES ('2', '1', '1', 'COMPLETE', NULL, '2026-11-26 18:20:43.685443');
INSERT INTO optuna.trial_user_attributes VALUES ('1', '1', 'generation', '0');
INSERT INTO optuna.trial_user_attributes VALUES ('2', '1', 'slot', '0');
INSERT INTO optuna.trial_user_attributes VALUES ('3', '1', 'origin', '"mutation"');
INSERT INTO optuna.trial_user_attributes VALUES ('4', '1', 'parents', '[0]');
INSERT INTO optuna.trial_user_attributes VALUES ('5', '1', 'critical_pair', '1');
INSERT INTO optuna.trial_user_attributes VALUES ('6', '1', 'attention_factor', '1.05');
INSERT INTO optuna.trial_user_attributes VALUES ('7', '1', 'long_factor', '[1.0, 2.0, 4.1]');
INSERT INTO optuna.trial_user_attributes VALUES ('8', '2', 'generation', '0');
INSERT INTO optuna.trial_user_attributes VALUES ('9', '2', 'slot', '1');
INSERT INTO optuna.trial_user_attributes VALUES ('10', '2', 'origin', '"mutation"');
INSERT INTO optuna.trial_user_attributes VALUES ('11', '2', 'parents', '[0]');
INSERT INTO optuna.trial_user_attributes VALUES ('12', '2', 'critical_pair', '1');
INSERT INTO optuna.trial_user_attributes VALUES ('13', '2', 'attention_factor', '1.05');
INSERT INTO optuna.trial_user_attributes VALUES ('14', '2', 'long_factor', '[1.0, 2.0, 4.1]');
INSERT INTO optuna.trial_system_attributes VALUES ('1', '1', 'ropewalk:genes', '[["lambda_1", 2.0, 1.0, 4.0, null, false]]');
INSERT INTO optuna.trial_system_attributes VALUES ('2', '2', 'ropewalk:genes', '[["lambda_1", 2.0, 1.0, 4.0, null, false]]');
INSERT INTO optuna.trial_params VALUES ('1', '1', 'lambda_1', '2', '{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 4.0, "log": false}}');
INSERT INTO optuna.trial_params VALUES ('2', '2', 'lambda_1', '2', '{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 4.0, "log": false}}');
INSERT INTO optuna.trial_values VALUES ('1', '2', '0', '0.25', 'FINITE');
INSERT INTO optuna.trial_intermediate_values VALUES ('1', '2', '0', '0.25', 'FINITE');
INSERT INTO optuna.alembic_version VALUES ('v3.2.0.a');
SELECT setval('ropewalk.events_id_seq', 1);
SELECT setval('optuna.studies_study_id_seq', 1);
SELECT setval('optuna.study_directions_study_direction_id_seq', 1);
SELECT setval('optuna.study_user_attributes_study_user_attribute_id_seq', 2);
SELECT setval('optuna.study_system_attributes_study_system_attribute_id_seq', 1);
SELECT setval('optuna.trials_trial_id_seq', 2);
SELECT setval('optuna.trial_user_attributes_trial_user_attribute_id_seq', 14);
SELECT setval('optuna.trial_system_attributes_trial_system_attribute_id_seq', 2);
SELECT setval('optuna.trial_params_param_id_seq', 2);
SELECT setval('optuna.trial_values_trial_value_id_seq', 1);
SELECT setval('optuna.trial_intermediate_values_trial_intermediate_value_id_seq', 1);
