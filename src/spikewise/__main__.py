"""`python -m spikewise` is `spikewise`."""

import sys

from .cli.main import main

sys.exit(main())
