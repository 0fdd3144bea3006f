"""The command line: thin commands over the packages below, each sub-command in a file of its own."""

from archipel.cli.main import main

__all__ = ["main"]
