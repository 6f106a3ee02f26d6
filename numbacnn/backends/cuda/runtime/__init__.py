"""The device or its simulator, kernels on it, and its arrays.

``target.py`` is what kernels are written with, ``kernel.py`` declares, compiles and keeps them, ``device.py`` drives
the GPU and ``simulator.py`` stands in for it, ``device_array.py`` has the arrays and their arena, ``captured.py``
captures steps.
"""
