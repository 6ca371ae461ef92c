"""`python -m spikewise` is `spikewise`."""

import sys

from .cli import main

sys.exit(main())
