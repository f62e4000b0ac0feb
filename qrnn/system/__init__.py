"""File access for the rest of the package: output files are written whole or not at all, and input files are checked before they are read."""
