"""`python -m evaluator`: measure a checkpoint without any site; `python -m evaluator pack` makes one to hand in."""

import sys

from evaluator import cli, pack_cli

if sys.argv[1:2] == ["pack"]:
    sys.exit(pack_cli.main(sys.argv[2:]))
sys.exit(cli.main())
