"""The version of this distribution; the build reads it from here."""

ROPEWALK_VERSION = "0.1.0"
