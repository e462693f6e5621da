"""Operators that mix channels: one file each, same shape in and out."""
