"""What training has achieved, epoch by epoch, and what is drawn of it.

``history.py`` has the figures of the epochs, ``panels.py`` says which of their curves belong together, and
``character_curves.py`` and ``vector_curves.py`` draw those for terminals and notebooks. None of it knows of a run.
"""
