"""What deterministic kernels are set by, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from modelship_trainer.training.device import seed_everything

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_flag_is_really_set(deterministic: bool) -> None:
    try:
        seed_everything(0, deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_compiler_of_the_users_is_told_too() -> None:
    """Imported after the first call, which then leaves it a variable; before the second, which tells it."""
    program = """
from modelship_trainer.training.device import seed_everything
seed_everything(0, deterministic=True)
import torch._inductor.config as compiler
assert compiler.deterministic is True
seed_everything(0, deterministic=False)
assert compiler.deterministic is False
"""
    subprocess.run([sys.executable, "-c", program], check=True)
