"""``python -m archipel.cli`` is ``archipel``."""

from archipel.cli.main import main

main()
