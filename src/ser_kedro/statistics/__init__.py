"""Estimates, intervals and power; knows nothing of rewards."""
