"""The number: its protocol, its arithmetic, and the storage of its value."""
