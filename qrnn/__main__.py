"""Run the command line as ``python -m qrnn``."""

from qrnn.cli import main

main()
