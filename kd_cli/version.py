"""The version of kd, which hatchling reads too."""

__version__ = "0.1.0"
