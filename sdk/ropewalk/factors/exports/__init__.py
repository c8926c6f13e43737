"""Factors in the forms that other programs load: a file for each, and one row in `registry`."""
