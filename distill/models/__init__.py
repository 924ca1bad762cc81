"""The networks of teacher and students, their parts, and saving and loading them."""
