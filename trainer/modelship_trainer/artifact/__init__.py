"""Artifacts: directories addressed by content."""
