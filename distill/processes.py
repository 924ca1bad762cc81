"""One command in several processes: who is first, who does what, and how they agree."""
