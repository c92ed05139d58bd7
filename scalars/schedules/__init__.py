"""The schedules: pure maps of the progress of a run to a value."""
