"""The reward model: encoding, losses, training, scoring, calibration."""
