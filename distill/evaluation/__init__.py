"""How good models are, how fast, and what they are compared with."""
