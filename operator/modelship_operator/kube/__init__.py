"""The Kubernetes API over one HTTP session: requests, watches, lease, events. Knows no kind of ours by name."""
