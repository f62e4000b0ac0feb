"""The modules of tools/conformance.py, found as a script finds them: in its own folder. This package has its name: it is `conformance_tool`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.append(str(TOOLS))
spec = importlib.util.spec_from_file_location("conformance_tool", TOOLS / "conformance.py")
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
