"""Whether cheap documents rank candidates as full ones do."""
