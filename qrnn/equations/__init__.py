"""The float64 equations of the layers, which everything else is measured against."""
