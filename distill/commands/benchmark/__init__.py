"""``--mode benchmark``: every model from raw text to label, side by side: what is timed, how, and the table."""
