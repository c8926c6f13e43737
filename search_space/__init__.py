"""What a search tries: candidates, analytic baselines, and the strategies that breed them."""
