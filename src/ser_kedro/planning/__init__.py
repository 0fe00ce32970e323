"""What a run will need, worked out before anything is downloaded or started."""
