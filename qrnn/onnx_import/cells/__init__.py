"""Recurrent cells that a graph writes out by hand: recognised by their equation, and given to the importer as LSTM, GRU and RNN nodes."""
