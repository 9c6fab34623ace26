"""Pure pieces that the three controllers share."""
