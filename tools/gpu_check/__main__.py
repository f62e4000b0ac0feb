"""The command; it runs from the checkout, so that neither qrnn nor this package has to be installed."""

from __future__ import annotations

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path[0] = str(TOOLS)
sys.path.insert(0, str(TOOLS.parent))

from gpu_check.command import main  # noqa: E402  (found by the lines above)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
