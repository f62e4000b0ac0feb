"""What is known of hardware: the descriptions of targets, and of the chips and boards that are one of them."""
