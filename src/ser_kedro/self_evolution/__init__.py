"""The loop: which pairs it learns from, what came of it, which model is kept."""
