"""A local page on which people compare the answers of label requests."""
