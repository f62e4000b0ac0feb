"""``python -m qrnn``."""

from qrnn.cli import main

main()
