"""Architectures, a function each."""

from .lenet import lenet as lenet

__all__ = ["lenet"]
