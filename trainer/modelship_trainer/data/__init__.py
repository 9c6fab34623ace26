"""From a source to numbers: load, split, preprocess."""
