"""How a kernel is declared, compiled, kept on disk, launched on threads and captured, and where its arrays are.

``kernel.py`` declares and calls kernels, ``microkernel.py`` what they call by address; ``machine_code.py`` compiles,
keeps and holds both, ``precompile.py`` many at once. ``threads.py`` runs a launch on the threads of ``thread_pool.py``,
as many as ``cores.py`` finds. ``captured.py`` writes a step down, whose memory ``arena.py`` lays out;
``launch_cache.py`` does the same for a single function. ``allocator.py`` gives arrays memory that was used before.
"""
