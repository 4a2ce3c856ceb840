"""A run: its configuration, its training, its checkpoints, and how it is opened again."""
