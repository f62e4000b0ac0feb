"""Cycles of a step on a device: counted, from a trace of executed instructions and the core's manual, or from a model of the core."""
