"""Builds and runs the local cluster: Go tools, container images, kind. Standard library only (it runs before any venv)."""
