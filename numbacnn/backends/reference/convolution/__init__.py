"""Convolution's algorithms, as definitions."""
