"""The PostgreSQL server that comes along: started, stopped, and its accounts."""
