"""What a search proposes and what comes back: candidates, baselines, steps, and the ledger."""
