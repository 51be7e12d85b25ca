"""``python -m lstmkit`` is the command line."""

from lstmkit.cli import main

main()
