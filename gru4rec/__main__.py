"""`python -m gru4rec` is the command `gru4rec`."""

import sys

from gru4rec.cli import main

sys.exit(main())
