"""How good a model is: metrics, folds, the artifact's own score, and the report that shows them."""
