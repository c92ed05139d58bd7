"""``python -m scalars lora``: mlx-lm's own fine-tuning, with schedules in its config."""
