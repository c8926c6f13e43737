"""The ways in: HTTP application, typed client, command line."""
