"""Typed references, tables, jobs and their fingerprints, the store of finished ones."""
