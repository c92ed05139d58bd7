"""``python -m scalars lora``: fine-tuning with mlx-lm and schedules in its config."""
