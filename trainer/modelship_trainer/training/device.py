"""The device that a run uses: threads, precision, determinism."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

import numpy as np
import torch

from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Precision


def choose_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed torch, numpy and Python, and choose the kind of kernels."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    _use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _use_deterministic_algorithms(deterministic: bool) -> None:
    """As torch.use_deterministic_algorithms, which imports torch's compiler (three seconds of CPU) to set one option of it.

    The option is set for a module of the user's that compiles itself, before that or later.
    """
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1" if deterministic else "0"
    compiler: Any = sys.modules.get("torch._inductor.config")
    if compiler is not None:
        compiler.deterministic = deterministic
    torch._C._set_deterministic_algorithms(deterministic, warn_only=False)


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Type of the forward pass under autocast; None: plain fp32.

    Raises:
        UserError: RecipeInvalid for fp16 without a GPU.
    """
    match precision:
        case Precision.FP32:
            return None
        case Precision.BF16:
            return torch.bfloat16
        case Precision.FP16:
            if device.type != "cuda":
                raise UserError(
                    FailureReason.RECIPE_INVALID, "training.precision fp16 needs a GPU; use auto, bf16 or fp32, or ask for a GPU."
                )
            return torch.float16
        case Precision.AUTO:
            # Before Ampere, bf16 is emulated, and slower than fp32.
            native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else None


def random_state(device: torch.device) -> dict[str, Any]:
    """State of every generator that a module may draw from, as tensors and plain values."""
    version, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [str(version), torch.from_numpy(np.array(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set every generator to what `random_state` saw."""
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    version, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((version, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    python_version, internal, gauss_next = state["python"]
    random.setstate((python_version, tuple(internal), gauss_next))
