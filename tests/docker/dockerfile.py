"""A Dockerfile as its instructions, read for tests."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))


class Instruction(NamedTuple):
    """One instruction: its name, and its text on one line."""

    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """The words of an instruction in exec form."""
        words: list[str] = json.loads(self.value)
        return words

    @property
    def sources(self) -> list[Path]:
        """What a COPY takes from the checkout: nothing if it takes it from another stage."""
        return [] if self.value.startswith("--from=") else [ROOT / word for word in self.value.split()[:-1]]


def instructions(dockerfile: Path) -> list[Instruction]:
    with BytesIO(dockerfile.read_bytes()) as file:
        parts = DockerfileParser(fileobj=file).structure
    return [
        Instruction(part["instruction"], re.sub(r"\s+", " ", part["value"]))
        for part in parts
        if part["instruction"] != "COMMENT"
    ]
