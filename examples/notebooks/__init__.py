"""Lessons in convolution, as notebooks: ``python -m examples.notebooks`` executes them anew."""
