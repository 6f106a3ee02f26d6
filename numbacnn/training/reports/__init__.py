"""Callbacks that show a run or write down what it does; each is imported when it is asked for.

``progress.py`` has the bar on the terminal, ``live.py`` the curves that grow, ``curves.py`` the plot of them. Files are
written by ``progress_file.py`` for programs that watch a run, ``mistakes.py`` of what was classified wrongly,
``tensorboard_file.py`` for TensorBoard, with ``event_values.py`` behind it, and ``tracking.py`` for what keeps track of
runs.
"""
