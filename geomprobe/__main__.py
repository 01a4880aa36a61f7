"""``python -m geomprobe`` is the command line."""

from geomprobe.cli import main

main()
