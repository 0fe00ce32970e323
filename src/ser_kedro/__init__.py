"""Self-evolved reward learning for language models, as a Kedro project."""

__version__ = "0.1.0"
