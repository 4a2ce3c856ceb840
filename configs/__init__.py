"""The YAML files with each task's settings."""
