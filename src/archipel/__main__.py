"""``python -m archipel``: the command line."""

from archipel.cli import main

main()
