"""A page in the browser that shows what a model makes of an image: ``python -m numbacnn.explore``.

``__main__.py`` reads the options and serves, ``loading.py`` has the model that they name, ``session.py`` computes,
``uploads.py`` and ``strokes.py`` make pixels of what comes from the browser, ``answers.py`` and ``server.py`` answer
it, ``runs.py`` tells how a training goes, and ``page/`` is what it shows.
"""
