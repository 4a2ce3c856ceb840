"""Classifiers: how they are trained, what is measured of them, and how that is shown."""

from pipelines.classification.task import ClassificationTask, learning_rates

__all__ = ["ClassificationTask", "learning_rates"]
