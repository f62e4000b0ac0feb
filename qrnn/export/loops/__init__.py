"""Loops of layers (`RowLoop`, `StepLoop`) and functions of the contract, translated from their Python to C99: see `translator`."""
