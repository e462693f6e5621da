"""Operators that a plain loop would make slow: a definition to read, a fast form, and one function that chooses."""
