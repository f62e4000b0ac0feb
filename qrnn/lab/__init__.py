"""The trade-off laboratory: accuracy against size, speed and instructions, over many configurations of one model."""
