"""The pure maths: RoPE frequencies, critical pairs, rescale factors, baselines and breeding strategies."""
