"""The two schemas of one database: ours and Optuna's. Each has its own tables, versions and migrations."""

OUR_SCHEMA = "ropewalk"
OPTUNA_SCHEMA = "optuna"
