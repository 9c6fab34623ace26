"""The built-in architectures, and the user's own code. Importing this takes no torch: `models.source` needs none."""
