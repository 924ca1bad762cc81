"""``python -m distill`` is the command ``distill``."""

import sys

from distill.cli import main

sys.exit(main())
