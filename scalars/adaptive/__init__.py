"""Scalars that metrics and overflows change during training."""
