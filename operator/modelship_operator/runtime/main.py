"""`modelship-operator`: read the settings, log in, run."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from modelship_operator.controllers.deployment.controller import deployment_controller
from modelship_operator.controllers.evaluation.controller import evaluation_controller
from modelship_operator.controllers.framework import Controller
from modelship_operator.controllers.training.controller import training_controller
from modelship_operator.resources.settings import PodSettings
from modelship_operator.runtime import logs, wiring
from modelship_operator.runtime.operator import Operator
from modelship_operator.runtime.settings import Settings, SettingsError

log = logging.getLogger(__name__)


def controllers(pods: PodSettings) -> Sequence[Controller[Any]]:
    """One per kind."""
    return [training_controller(pods), evaluation_controller(pods), deployment_controller(pods)]


def main() -> None:
    """Exit status: 0 after SIGTERM, 1 where a restart is the cure, 2 where a setting is wrong."""
    logs.set_up("info")
    try:
        settings = Settings.from_environment()
        logs.set_up(settings.log_level)
        login = wiring.log_in()
    except (SettingsError, wiring.NoLogin) as error:
        log.error("cannot start", extra={"error": str(error)})
        sys.exit(2)
    sys.exit(0 if run(settings, login) else 1)


def run(settings: Settings, login: Any) -> bool:
    """Run one replica on uvloop until it is stopped."""
    # Modules and their tables live for ever: the collector need not walk over them, nor over the store after each burst. What it
    # does free is small, as the wiring takes Kopf's events apart: 200,000 objects cost 4 MiB more than 50,000, and 5 % less CPU.
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)

    async def operate() -> bool:
        return await Operator(settings, login, controllers(settings.pods)).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(operate())


if __name__ == "__main__":
    main()
