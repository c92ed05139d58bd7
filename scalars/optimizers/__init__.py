"""Scalars in optimizers: attached to their state."""
