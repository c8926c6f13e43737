"""The pictures of searches and ablations as PNG files."""
