"""Many searches as one experiment, compared on documents that none of them has seen."""
