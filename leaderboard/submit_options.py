"""What is said of a file on a command line, whether it is handed in here or to another site (no Django)."""

import argparse
from pathlib import Path

from evaluator.architectures import ARCHITECTURES
from evaluator.manifest import Manifest, read_options
from evaluator.shipped import PROTOCOLS, find_protocol

EXTRA_DATA = (
    "not stated", "none", "unlabeled images", "generated images", "labeled images", "pretrained weights",
)  # fmt: skip
"""The values of `models.ExtraData`."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, help="safetensors file, with its manifest inside or named below")
    parser.add_argument("--protocol", required=True, help=f"one of {', '.join(PROTOCOLS)}")
    parser.add_argument("--title", help="how it is called on the board (default: the file's name)")
    parser.add_argument("--architecture", help=f"for a file without a manifest: {', '.join(ARCHITECTURES)}")
    parser.add_argument("--options", default="{}", metavar="JSON", help="the architecture's options")
    parser.add_argument("--dataset", help="for a file without a manifest (default: the protocol's)")
    parser.add_argument("--authors", default="", help="who made it")
    parser.add_argument("--paper", default="", metavar="URL", help="the address of a paper, or of code")
    parser.add_argument("--venue", default="", help="where it was published")
    parser.add_argument(
        "--extra-data", default=EXTRA_DATA[0], choices=EXTRA_DATA,
        help="on what it was trained beside the data set's training images (default: not stated)",
    )  # fmt: skip
    parser.add_argument("--private", action="store_true", help="only its owner and staff see it, until published")
    parser.add_argument("--anonymous", action="store_true", help="only its owner and staff see authors and paper")
    parser.add_argument("--preview", action="store_true", help="estimate its robust error before all else")
    parser.add_argument("--consent", action="store_true", help="say that its makers agree to its publication")
    parser.add_argument("--wait", action="store_true", help="say how it stands until it has ended")
    parser.add_argument("--json", action="store_true", help="print at last how it stands, as JSON")


def manifest(protocol: str, architecture: str | None, options: str, dataset: str | None) -> Manifest | None:
    """Return what network a file is for, where the command line says so.

    Raises:
        InvalidRequest: there is no such protocol, architecture, option or data set.
    """
    if architecture is None:
        return None
    return Manifest(architecture, dataset or find_protocol(protocol).dataset, read_options(options))
