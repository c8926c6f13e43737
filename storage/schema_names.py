"""The two schemas of one database: ours and Optuna's. Each has its own tables, versions and migrations."""

OUR_SCHEMA = "ropewalk"
OPTUNA_SCHEMA = "optuna"

#: Events are announced here with the job's id as payload; the rows are the truth.
EVENTS_CHANNEL = "ropewalk_events"
