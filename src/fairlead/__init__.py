"""Fairlead takes a machine-learning model from data to production and keeps it healthy there."""

__version__ = "0.1.0"

__all__ = ["__version__"]
