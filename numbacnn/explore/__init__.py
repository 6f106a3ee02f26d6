"""The page in the browser (extra)."""
