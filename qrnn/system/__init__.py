"""The machine below: files that are written whole or not at all, and files that are read without surprises."""
