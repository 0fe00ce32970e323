"""Further test sets: preference files, and the formats of three benchmarks."""
