"""Data files of models from recordings, tables and other data files, and the features that a microphone's samples become."""
