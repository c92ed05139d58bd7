"""Tools around the scalars: schedules by the names that other programs give them."""
