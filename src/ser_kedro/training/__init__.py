"""Training: the SFT model, reward models whole or as a head, averages of weights."""
