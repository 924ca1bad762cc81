"""``python distill.py --mode all | train_teacher | train_student | test``; see README.md."""

import sys

from distill.cli import main

sys.exit(main())
