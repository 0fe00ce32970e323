"""The policy: supervised fine-tuning, and what is built on it."""
