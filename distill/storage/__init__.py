"""Files on disk: encodings, atomic writes, fingerprints and provenance, locks, and the layout of a run's folder."""
