"""The trade-off laboratory measures accuracy against size, speed and instructions, over many configurations of one model."""
