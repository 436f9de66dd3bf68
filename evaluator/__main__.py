"""`python -m evaluator`: measure a checkpoint without any site."""

import sys

from evaluator.cli import main

sys.exit(main())
