"""What the evolution was worth: metrics with intervals, arms, the report."""
