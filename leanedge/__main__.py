"""``python -m leanedge`` is the ``leanedge`` command."""

from leanedge.cli import main

main()
