"""Side by side with other people's software: ``python -m benchmarks``."""
