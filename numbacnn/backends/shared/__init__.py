"""Index and bit arithmetic written once: plain Python that NumPy runs on arrays and Numba compiles for any device."""
