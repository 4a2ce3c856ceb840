"""The commands: arguments, paths and exit codes."""
