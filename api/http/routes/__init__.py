"""One router per kind of job, and health; what the routers share is in `common`."""
