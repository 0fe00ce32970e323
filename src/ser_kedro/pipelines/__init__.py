"""The pipelines: wiring and thin nodes."""
