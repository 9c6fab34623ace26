"""What the machine must be, said in a sentence each before anything is built."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator

from . import gotools
from .console import Failure


def lacks(system: str, architecture: str, python: tuple[int, int], tests: bool) -> Iterator[str]:
    """Why the demo, or the tests, cannot run here."""
    if (system, architecture) != ("Linux", "x86_64"):
        yield f"this is {system} on {architecture}: Linux on x86-64 is needed, which Triton's wheel is for"
    found = ".".join(map(str, python))
    if python < (3, 11):
        yield f"this is Python {found}: 3.11 or newer is needed, as `python3` in PATH"
    elif tests and python != (3, 11):
        yield (
            f"this is Python {found}: the integration tests of serving need 3.11 itself, as Debian 12 has it, since Triton's "
            "wheels are pinned for it; `make PYTHON=python3.11 test` where it is installed beside"
        )


def main() -> None:
    """Run `tools/check-machine`."""
    parser = argparse.ArgumentParser(prog="tools/check-machine", description=__doc__)
    parser.add_argument("purpose", nargs="?", choices=["demo", "test"], default="demo")
    tests = parser.parse_args().purpose == "test"
    problems = list(lacks(platform.system(), platform.machine(), sys.version_info[:2], tests))
    if problems:
        raise Failure("\nerror: ".join(problems))
    gotools.go_environment()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
