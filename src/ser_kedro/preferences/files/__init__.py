"""What is found at a place, as raw records."""
