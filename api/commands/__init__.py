"""The commands, a file per theme; each has `register(app)`.

Heavy imports (torch, Ray, the database drivers) happen inside the commands that need them, so that the others answer
at once.
"""
