"""Training: losses, optimizers, the training loop with selection on dev, and the cache of teacher outputs."""
