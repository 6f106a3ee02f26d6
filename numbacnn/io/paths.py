"""Paths as users write them."""

from ..files import user_path as user_path

__all__ = ["user_path"]
