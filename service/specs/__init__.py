"""The specs that users submit, as pydantic models."""
