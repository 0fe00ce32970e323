"""A language model as judge of responses, behind any OpenAI-compatible endpoint."""
