"""Values of other libraries' schedules, and the script that made them."""
