"""Files: atomic writes, fingerprints, locks, and the layout of a run's folder."""
