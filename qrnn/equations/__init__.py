"""Everything is measured against the float64 equations of the layers."""
