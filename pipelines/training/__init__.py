"""What every training does: the base of the tasks, the loaders, the recorder."""
