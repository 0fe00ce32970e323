"""The results page: its rows, its text and its figures."""
