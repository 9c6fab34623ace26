"""Kubernetes quantities: their text, their value, and the schema of a field that takes every way of writing one.

The grammar is that of `k8s.io/apimachinery/pkg/api/resource`: a number, then nothing, a decimal suffix (m, k, M ...), a binary one
(Ki, Mi ...) or an exponent (e9).
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

_NUMBER = r"[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_SUFFIX = r"n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2}"
_QUANTITY = re.compile(rf"(?P<number>{_NUMBER})(?P<suffix>{_SUFFIX})?", re.ASCII)
_FACTORS = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** -power for power, suffix in enumerate("mun", start=1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}

_POSITIVE = r"\+?(0*[1-9][0-9]*(\.[0-9]*)?|0*\.[0-9]*[1-9][0-9]*)"
_CPU = rf"^{_POSITIVE}({_SUFFIX})?$"
_BYTES = rf"^({_POSITIVE}({_SUFFIX})|\+?0*[1-9][0-9]{{6,}}(\.[0-9]*)?)$"
_LEAST_BYTES = 10**6
_MOST = 10**18
"""Of anything: what Kubernetes counts ends at 2^63."""
_LONGEST = 32


def amount(text: str) -> Decimal | None:
    """The number that a quantity means, in its unit (cores, bytes); None where the text is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    number, suffix = Decimal(found["number"]), found["suffix"] or ""
    return number * _FACTORS[suffix] if suffix in _FACTORS else number.scaleb(int(suffix[1:]))


def _number_as_text(value: object) -> object:
    """A number in a file is the quantity that Kubernetes makes of it: 0.5 is "0.5", and 1e9 is "1000000000"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{Decimal(json.dumps(value)):f}"


def _from(least: Decimal, too_little: str) -> AfterValidator:
    def check(text: str) -> str:
        value = amount(text)
        if value is None or not least <= value <= _MOST:
            wrong = too_little if value is None or value < least else "is more than there can be"
            raise PydanticCustomError("quantity", "{message}", {"message": f"{text} {wrong}"})
        return text

    return AfterValidator(check)


def _schema(pattern: str, above: int) -> WithJsonSchema:
    """Text of this pattern, or a number above `above`, which is whole: the API server takes bounds of whole numbers for whole.

    A structural schema has no type for "number or text" (`x-kubernetes-int-or-string` takes no fractions). So there is none, and
    flags, objects and lists are refused by what none of them can keep.
    """
    text, number = {"pattern": pattern, "maxLength": _LONGEST}, {"exclusiveMinimum": above, "maximum": _MOST}
    neither = {"not": {"enum": [True, False]}, "minProperties": 1, "maxProperties": 0, "minItems": 1, "maxItems": 0}
    return WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True, **text, **number, **neither})


Cpu = Annotated[
    str,
    StringConstraints(pattern=_CPU, max_length=_LONGEST),
    BeforeValidator(_number_as_text),
    _from(Decimal("0.001"), "is less than 1m, a thousandth of a core"),
    _schema(_CPU, above=0),
]
"""Cores: 2, 0.5 or 500m; text, as Kubernetes takes it."""
Bytes = Annotated[
    str,
    StringConstraints(pattern=_BYTES, max_length=_LONGEST),
    BeforeValidator(_number_as_text),
    _from(Decimal(_LEAST_BYTES), "is less than 1M, a million bytes: is there a suffix missing, such as Mi or Gi?"),
    _schema(_BYTES, above=_LEAST_BYTES - 1),
]
"""512Mi, 2Gi, 1e9, or a number of bytes of at least seven digits: less would be a slip. Text, as Kubernetes takes it."""
