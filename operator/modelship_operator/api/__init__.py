"""The three kinds: pydantic models, CRD generation, offline validation. No I/O."""
