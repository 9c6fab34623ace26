"""A controller per kind: observe, plan (pure), act."""
