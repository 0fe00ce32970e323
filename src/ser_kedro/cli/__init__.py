"""The ``ser-kedro`` command, a module a command; Kedro takes ``run`` from here."""

from ser_kedro.cli.main import cli

__all__ = ["cli"]
