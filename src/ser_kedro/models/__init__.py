"""Text to numbers: encoding, packing, reward models, scoring, frozen features."""
