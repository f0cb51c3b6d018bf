"""What is remembered of runs: checkpoints, manifests, metrics."""
