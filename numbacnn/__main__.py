"""``python -m numbacnn``: the command ``numbacnn``."""

import sys

from .cli.main import main

sys.exit(main())
