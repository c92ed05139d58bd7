"""Plain reference implementations, written from the papers."""
