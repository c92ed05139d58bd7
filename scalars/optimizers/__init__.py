"""Scalars in the state of optimizers, settings by layer, and Schedule-Free optimizers."""
