"""What a preference pair is: schema, readers, validation, splitting, the demo world."""
