"""`modelship validate`: say what the API server would refuse, with file, document and field, without a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from modelship_operator.api.validate import Document, check
from modelship_trainer.yaml_text import YamlError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `modelship validate`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="YAML or JSON, any number of documents; - reads standard input")


def run(options: argparse.Namespace) -> int:
    """Print a line for each document, or for each problem in it; 1 when there is one."""
    failed = False
    for file in options.files:
        try:
            for document in check(_read(file)):
                failed = failed or bool(document.problems)
                for line in _lines(document):
                    print(f"{file}:document {document.number} ({document.title}): {line}")
        except (YamlError, OSError, UnicodeDecodeError) as error:
            failed = True
            print(f"{file}: {error.strerror if isinstance(error, OSError) else error}")
    return 1 if failed else 0


def _read(file: str) -> str:
    return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")


def _lines(document: Document) -> Iterator[str]:
    if document.problems:
        yield from map(str, document.problems)
    else:
        yield "OK" if document.ours else "skipped: not of the group modelship.dev"
