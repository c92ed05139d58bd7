"""Plain implementations of what the package does cleverly, written from the papers."""
