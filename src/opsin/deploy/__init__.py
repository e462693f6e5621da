"""Models as files that run anywhere and give the same answers."""
