"""Scalars that are driven by what training gives: metrics and overflows."""
