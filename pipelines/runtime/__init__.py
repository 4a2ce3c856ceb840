"""What every command stands on: the shell, the run folder, memory, clusters, files of our own."""
