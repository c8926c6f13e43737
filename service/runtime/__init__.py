"""What the run of any kind of job stands on: lease, artifacts, failures, traces."""
