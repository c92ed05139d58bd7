"""The number: its protocol, its arithmetic, and the checks of its arguments."""
