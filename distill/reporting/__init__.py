"""Results of a run as text, Markdown, JSON and HTML: the report, the comparison, the speed table."""
