"""The version of the package, as pyproject.toml gives it."""

__version__ = "0.1.0"
