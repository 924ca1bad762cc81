"""``python distill.py --mode MODE [flags]``; see README.md."""

import sys

from distill.cli import main

sys.exit(main())
