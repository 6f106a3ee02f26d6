"""What a loader takes batches from: samples in arrays.

``array_dataset.py`` has labelled images, ``pair_dataset.py`` any inputs with any targets, ``splits.py`` parts of
either. Behind both are ``columns.py``, the arrays with what becomes of them in a batch.
"""
