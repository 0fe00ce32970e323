"""What one run is worth: accuracy, calibration, length, consistency, benchmarks."""
