"""YAML as kubectl reads it: text in, documents as the API server gets to see them out. No text is too odd for an answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import yaml

Path = tuple[str | int, ...]

MAX_DEPTH = 200
"""Of objects and lists within each other: far more than any resource has, and less than Python's stack holds."""
MAX_NODES = 1_000_000
"""With aliases written out: a few lines of them make more than any machine holds."""


class Problem(NamedTuple):
    """One thing that is wrong, and where: `spec.model.mlp.hidden[0]`; empty for the document itself."""

    path: str
    message: str

    def __str__(self) -> str:
        """As a line of text."""
        return f"{self.path}: {self.message}" if self.path else self.message

    def below(self, path: Path) -> Problem:
        """The same problem of a part of a document, told from the document's top."""
        whole = ".".join(part for part in (text_of(path), self.path) if part)
        return Problem(whole, self.message)


def text_of(path: Sequence[str | int]) -> str:
    """`spec.gates[0].min`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


class YamlError(Exception):
    """The text is no YAML; the message has the line."""


class NotJson(Exception):
    """A value that cannot be sent."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def documents(text: str) -> Iterator[Any]:
    """Each document that is not empty: its value, or the Problem of one that no value can be made of.

    Raises:
        YamlError: from the document that cannot be read on.
    """
    try:
        loader = KubectlLoader(text)
        while loader.check_node():
            node = cast(yaml.Node, loader.get_node())
            try:
                _measure(node, (), {}, set())
            except NotJson as error:
                yield error.problem
                continue
            value = loader.construct_document(node)
            if value is not None:
                yield value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{line}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(str(error).splitlines()[0]) from error


class _Extent(NamedTuple):
    nodes: int
    depth: int


def _measure(node: yaml.Node, path: Path, known: dict[yaml.Node, _Extent], above: set[yaml.Node]) -> _Extent:
    """How large `node` is with its aliases written out.

    Raises:
        NotJson: larger than anybody means, or endless.
    """
    if node in above:
        raise NotJson(Problem(text_of(path), f"line {node.start_mark.line + 1}: the anchor contains itself"))
    if node not in known and len(above) < MAX_DEPTH:
        above.add(node)
        parts = [_measure(part, at, known, above) for part, at in _parts(node, path)]
        above.remove(node)
        known[node] = _Extent(1 + sum(part.nodes for part in parts), 1 + max((part.depth for part in parts), default=0))
    if node not in known or len(above) + known[node].depth > MAX_DEPTH:
        # The path's beginning: all of it would fill the screen.
        raise NotJson(Problem(text_of(path[:8]), f"nested more than {MAX_DEPTH} deep"))
    if known[node].nodes > MAX_NODES:
        raise NotJson(Problem(text_of(path), f"has more than {MAX_NODES:,} values, with its aliases written out"))
    return known[node]


def _parts(node: yaml.Node, path: Path) -> Iterator[tuple[yaml.Node, Path]]:
    if isinstance(node, yaml.SequenceNode):
        yield from ((item, (*path, index)) for index, item in enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, path
            yield value, (*path, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")


def as_sent(value: Any, path: Path = ()) -> Any:
    """The value as the API server gets to see it: null fields are as if left out, 1.0 is 1."""
    if isinstance(value, dict):
        return {_key(key): as_sent(item, (*path, _key(key))) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [as_sent(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise NotJson(Problem(text_of(path), f"must be a finite number, not {value}"))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _key(key: Hashable) -> str:
    return key if isinstance(key, str) else json.dumps(key)


# --- the loader ---------------------------------------------------------------------------------------------------------------


class KubectlLoader(yaml.SafeLoader):
    """YAML as kubectl reads it: `1e-3` is a number, dates and 12:30 are text, a key that is there twice is an error."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name and type

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; a key that is there twice raises, as it does in the API server."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = _key(self.construct_object(key))
                if name in seen:  # 1 and "1" are one key of JSON
                    raise yaml.constructor.ConstructorError(None, None, f'key "{name}" is there twice', key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node; what is nested too deep raises, before Python's stack ends."""
        if self.depth >= MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """A text; two escapes of a JSON file may make one character, and half of one raises."""
        text: str = super().construct_scalar(node)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise yaml.constructor.ConstructorError(None, None, "half a Unicode character", node.start_mark) from error


_DECIMAL = r"(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9_]+)?"
_SCALARS = (
    ("bool", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(0[bB][01_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    ("float", rf"[-+]?{_DECIMAL}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
)
"""As sigs.k8s.io/yaml resolves plain scalars, first match first."""
for _name, _pattern, _first in _SCALARS:
    KubectlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


_BOOLS = {"y": True, "yes": True, "true": True, "on": True, "n": False, "no": False, "false": False, "off": False}


def _construct_bool(loader: KubectlLoader, node: yaml.ScalarNode) -> bool | str:
    text: str = node.value
    return _BOOLS.get(text.lower(), text)


def _construct_number(loader: KubectlLoader, node: yaml.ScalarNode) -> float | str:
    """As Go reads it: what does not fit 64 bits is a float, and what is no number then is text, such as `0b_`."""
    whole: str = node.value
    text = whole.replace("_", "").lower()
    if re.fullmatch(r"[-+]?\.inf|\.nan", text):
        return float(text.replace(".", ""))
    try:
        number = int(text, 8) if re.fullmatch(r"[-+]?0[0-7]+", text) else int(text, 0)
        if -(2**63) <= number < 2**63:
            return number
    except ValueError:  # also of a number of thousands of digits
        pass
    try:
        value = float(text)
    except ValueError:
        return whole
    return value if math.isfinite(value) else whole


def _construct_binary(loader: KubectlLoader, node: yaml.ScalarNode) -> str:
    return loader.construct_yaml_binary(node).decode(errors="replace")


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "bool": _construct_bool,
    "int": _construct_number,
    "float": _construct_number,
    "timestamp": KubectlLoader.construct_yaml_str,
    "binary": _construct_binary,
    "set": KubectlLoader.construct_yaml_map,
    "omap": KubectlLoader.construct_yaml_seq,
    "pairs": KubectlLoader.construct_yaml_seq,
}
for _name, _constructor in _CONSTRUCTORS.items():
    KubectlLoader.add_constructor(f"tag:yaml.org,2002:{_name}", _constructor)
