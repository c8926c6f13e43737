"""Everything PostgreSQL: jobs and leases, document scores, the Optuna study, migrations, the embedded server."""
