"""Tools: configs, names, command-line flags, recording, plots, and the learning rate test."""
