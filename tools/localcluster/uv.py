"""`uv`, which installs Python packages in half of pip's time, with the settings that the machine gives pip.

    PYTHON uv.py pip install --python OTHER_PYTHON ...

runs the `uv` that is installed beside PYTHON. It stands alone: the trainer's image is built with it, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "timeout", "cert")
_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
}
_COMMA = ("find-links",)  # the others of several values are separated by blanks, as pip's are


def pip_settings(listing: str) -> dict[str, str]:
    """Where packages come from, out of `pip config list`; the environment's word counts last, as it does for pip."""
    found = re.findall(r"^(global|install|:env:)\.(?:default-)?([a-z-]+)='(.*)'$", listing, re.M)
    ordered = sorted(found, key=lambda entry: ("global", "install", ":env:").index(entry[0]))
    return {key: value for _, key, value in ordered if key in PIP_SETTINGS}


def pip_config_list() -> str:
    """What the pip of this Python is set to."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def environment(settings: dict[str, str]) -> dict[str, str]:
    """The variables that tell uv what `settings` tell pip; white space separates several values in one."""
    values = {key: (",".join(value.split()) if key in _COMMA else " ".join(value.split())) for key, value in settings.items()}
    return {_VARIABLES[key]: value for key, value in values.items() if value}


def main() -> None:
    """Become uv."""
    settings = pip_settings(pip_config_list())
    folders = settings.pop("find-links", "").split()  # pip passes over those that are not there, uv fails
    settings["find-links"] = " ".join(entry for entry in folders if "://" in entry or Path(entry).exists())
    os.environ.update({"UV_NO_PROGRESS": "1", **environment(settings)})
    uv = Path(sys.executable).parent / "uv"
    os.execv(uv, [str(uv), *sys.argv[1:]])  # noqa: S606 - our own arguments, without a shell


if __name__ == "__main__":
    main()
