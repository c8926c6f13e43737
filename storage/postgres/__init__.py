"""One database and its pool: tables, sessions, retries, and schema versions."""
