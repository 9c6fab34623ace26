"""What all tiers share."""

from __future__ import annotations

import os

from hypothesis import settings

# Sums depend on the number of threads in their last bit, and so do digests; a pod has one number all its life, and so do the tests.
os.environ["OMP_NUM_THREADS"] = "1"

# Without a deadline: an example that waits for a busy machine has not failed.
settings.register_profile("modelship", deadline=None)
settings.load_profile("modelship")
