"""What all tiers share."""

from __future__ import annotations

import os

# Sums depend on the number of threads in their last bit, and so do digests; a pod has one number all its life, and so do the tests.
os.environ["OMP_NUM_THREADS"] = "1"
