"""`python -m trainers`: train a reference variant without any site."""

import sys

from trainers.cli import main

sys.exit(main())
