"""What `benchmarks/` measures, for a machine with a GPU: it needs torch and transformers, and little else."""
