"""The HTTP application: access, error handlers, event streams, and the routes."""
