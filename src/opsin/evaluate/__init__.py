"""What a model is worth: how right it is, how sure, how fast, how large, and what it looks at."""
