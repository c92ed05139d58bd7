"""A run: many scalars updated at once, and steps turned into progress."""
