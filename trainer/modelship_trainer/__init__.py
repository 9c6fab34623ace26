"""What runs in the training, evaluation and serving pods, and the recipe types that the operator embeds."""
