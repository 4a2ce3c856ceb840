"""Tasks, training, evaluation and the commands."""
