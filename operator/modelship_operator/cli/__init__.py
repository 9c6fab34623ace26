"""`modelship`: what a person runs. One file per subcommand, with `add_arguments(parser)` and `run(options) -> exit status`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "validate": "check files of Modelship resources without a cluster",
    "upload": "put a file of data on a claim",
    "predict": "ask a served model with the rows of a file",
    "report": "fetch the HTML report of an evaluation",
}
"""Subcommands and what they do; each is the module of that name, imported when it is asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="modelship", description="Train, prove and serve models on Kubernetes.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name in given[:1]:
            try:
                module = importlib.import_module(f"{__name__}.{name}")
            except ModuleNotFoundError as error:
                print(f"modelship {name} needs {error.name}: pip install 'modelship[client]'", file=sys.stderr)
                return 1
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    options = parser.parse_args(given)
    status: int = options.run(options)
    return status
