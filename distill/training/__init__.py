"""Training: objectives, optimizer, the loop that selects on dev, and the cache of the teacher's answers."""
