"""Jobs, the store of finished jobs, and the launchers that run them."""
