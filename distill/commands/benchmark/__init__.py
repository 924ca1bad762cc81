"""``--mode benchmark``: times every model from raw text to label. Candidates, how they are timed, and the table."""
