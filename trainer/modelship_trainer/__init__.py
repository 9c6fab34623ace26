"""What runs in the training, evaluation and serving pods, and the recipe types that the operator embeds."""

__version__ = "0.1.0"
