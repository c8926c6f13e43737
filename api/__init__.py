"""The interfaces: HTTP application, typed client, command line."""
