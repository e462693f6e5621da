"""Operators that mix places: one file each, same shape in and out."""
