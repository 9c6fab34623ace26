"""Modelship: train, prove and serve models on Kubernetes. The control plane; never imports torch."""
