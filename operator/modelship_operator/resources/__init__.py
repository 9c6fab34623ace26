"""Pure builders: settings and a resource in, whole Kubernetes objects out."""
