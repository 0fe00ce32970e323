"""What a record says: formats of preference data, recognised and read."""
