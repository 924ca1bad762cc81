"""The networks, teacher and students, their parts, and the folders that they are kept in."""
