"""What people read of a run: the report, the comparison, the table of speed, as text, Markdown, JSON and HTML."""
