"""Words of a text: the same in training and in the served graph, whatever Unicode the libraries there know."""

from __future__ import annotations

import re
import sys
from functools import cache
from itertools import groupby

WORD = re.compile(r"\w+")
"""A word: letters, digits and underscores of any script."""


@cache
def graph_pattern() -> str:
    r"""`WORD` for RE2, character by character: its own classes, such as `\p{L}`, may have letters that Python does not know yet."""
    codes = [code for code in range(sys.maxunicode + 1) if chr(code).isalnum() or code == ord("_")]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    return "[" + "".join(rf"\x{{{run[0]:x}}}-\x{{{run[-1]:x}}}" for run in runs) + "]+"


def fold_case(text: str) -> str:
    """Lower case, character by character, as ONNX's StringNormalizer does with the C library: `İ` is `i`, of Python two."""
    if text.isascii():
        return text.lower()
    return "".join(lower[0] if len(lower := char.lower()) > 1 else lower for char in text)
