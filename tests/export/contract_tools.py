"""The tools that write the contract in C, and the folder of what they write."""

from __future__ import annotations

from pathlib import Path

from tool_modules import load_tool

from qrnn.targets import targets_folder

NAMES = ("contract_dialects", "contract_to_c", "contract_functions", "make_contract")
DIALECTS, TO_C, FUNCTIONS, MAKE = (load_tool(name) for name in NAMES)

RUNTIME = targets_folder() / "runtime"
HERE = Path(__file__).parent
