"""The factor file, and its exports."""
