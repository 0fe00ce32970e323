"""Which pairs of the pool people should label next."""
