"""Loops of layers (`RowLoop`, `StepLoop`) and functions of the contract are translated from their Python to C99; see `translator`."""
