"""A model's README.md, with the Hub's metadata."""
