"""More test sets: preference files, and three published benchmarks."""
