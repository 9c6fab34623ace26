"""Training rows as tensors, in an epoch's order, in batches on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from modelship_trainer.data.prepare import Examples

COPIED_BYTES = 256 << 20
"""Up to this size, an epoch's rows are copied in their order once, and batches are slices; beyond, each batch is gathered."""
DEVICE_SHARE = 0.5
"""Share of a GPU's free memory that the rows may take; larger data stays in the host's, and batches are sent over."""


class Batches:
    """Rows `x` `[N, ...]` and targets `y`: `[N]` int64 classes, or `[N, 1]` float32 values."""

    def __init__(self, examples: Examples, device: torch.device) -> None:
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        y = y if y.dtype == torch.int64 else y[:, None]
        self._device = device
        self.resident = device.type != "cuda" or x.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
        self._all = (x.to(device), y.to(device)) if self.resident else (x.pin_memory(), y.pin_memory())
        self._rows = self._all
        self._order: Tensor | None = None
        self._copies = x.nbytes <= COPIED_BYTES

    def __len__(self) -> int:
        return len(self._all[1])

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row of `x`."""
        return tuple(self._all[0].shape[1:])

    def arrange(self, order: Tensor | None) -> None:
        """Put the rows into this order, `[N]` int64; None: as they came."""
        self._rows, self._order = self._all, None if order is None else order.to(self._all[0].device)
        if self._order is not None and self._copies:
            self._rows, self._order = (self._all[0][self._order], self._all[1][self._order]), None

    def __call__(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Rows `[start, stop)` of the order."""
        if self._order is None:
            x, y = self._rows[0][start:stop], self._rows[1][start:stop]
        else:
            chosen = self._order[start:stop]
            x, y = self._rows[0][chosen], self._rows[1][chosen]
        if self.resident:
            return x, y
        return x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)
