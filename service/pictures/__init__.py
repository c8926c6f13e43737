"""The figures of a search, from its trials and scores to plotly."""
