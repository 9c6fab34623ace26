"""Where objects live: the path of an API resource, from its apiVersion and kind."""

from __future__ import annotations

from dataclasses import dataclass

FIELD_MANAGER = "modelship"
"""Under which the API server notes what we write."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced kind of the API server."""

    api_version: str
    kind: str

    @property
    def plural(self) -> str:
        """`networkpolicies` of `NetworkPolicy`. English rules, which hold for every kind that we handle."""
        name = self.kind.lower()
        return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Absolute path of the collection (all namespaces where None), of an object, or of its subresource."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root, *(("namespaces", namespace) if namespace else ()), self.plural]
        return "/".join([*parts, *([name] if name else ()), *([subresource] if subresource else ())])
