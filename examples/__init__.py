"""One page per subject; run each as ``python -m examples.NAME``."""
