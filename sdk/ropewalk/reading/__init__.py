"""JSON to frozen dataclasses and back, by their annotations: types, ranges, and a JSON schema."""
