"""Heads for other tasks than telling classes: what stands on the maps of a backbone."""
