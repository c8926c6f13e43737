"""Scorers and generators as Ray actors: tasks in, outcomes out, lost workers replaced."""
