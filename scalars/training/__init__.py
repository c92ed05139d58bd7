"""Training runs: groups of scalars, the conversion of steps to progress, phases and ranks."""
