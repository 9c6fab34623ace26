"""Fitting a module: loop, optimisers, schedules, checkpoints, progress."""
