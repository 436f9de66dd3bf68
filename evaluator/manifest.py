"""What a checkpoint says of itself: architecture, options, data set, recipe, notes (torch-free).

The manifest travels inside the safetensors file, as JSON under the metadata key `manifest`: a checkpoint is one file.
"""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config

from evaluator.architectures import parse_options
from evaluator.dataset_facts import find_dataset_facts
from evaluator.exceptions import InvalidCheckpoint, InvalidRequest

METADATA_KEY = "manifest"
"""Where in a safetensors file's `__metadata__` the manifest stands."""

SCHEMA_VERSION = 1

_Line = Annotated[str, StringConstraints(max_length=1000)]


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Manifest:
    """What is needed to rebuild a network and to say where it comes from.

    `options` are the architecture's, completed with its defaults, so that a later default changes no old checkpoint.

    Raises:
        InvalidRequest: no such architecture, option or data set, or a value out of bounds.
    """

    architecture: str
    dataset: str
    options: dict[str, Any] = field(default_factory=dict)
    recipe: _Line | None = None
    notes: Annotated[dict[_Line, _Line], Field(max_length=50)] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise InvalidRequest(f"a manifest of version {self.schema_version} was given; known is {SCHEMA_VERSION}")
        find_dataset_facts(self.dataset)
        complete = parse_options(self.architecture, self.options).model_dump(mode="json")
        object.__setattr__(self, "options", complete)
        object.__setattr__(self, "notes", dict(sorted(self.notes.items())))

    def to_json(self) -> str:
        """Return the manifest as JSON, notes in sorted order: equal manifests give equal bytes."""
        return _MANIFEST.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Parse what `to_json` wrote.

        Raises:
            InvalidCheckpoint: it is anything else, or names what does not exist.
        """
        try:
            return _MANIFEST.validate_json(text)
        except InvalidRequest as error:
            raise InvalidCheckpoint(f"the checkpoint's manifest cannot be followed: {error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])[:60].encode("unicode_escape").decode()
            raise InvalidCheckpoint(
                f"the checkpoint's manifest is malformed at {place or 'its text'}: "
                f"{first['msg'][:200]}; use save_checkpoint"
            ) from None


def read_options(text: str) -> dict[str, Any]:
    """Return an architecture's options as somebody wrote them in JSON; whether they are its own a manifest says.

    Raises:
        InvalidRequest: it is no JSON object.
    """
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"--options is no JSON ({error}); write for example '{{\"width\": 16}}'") from error
    if not isinstance(options, dict):
        raise InvalidRequest(f"--options must be a JSON object, got {text:.80}")
    return options


_MANIFEST = TypeAdapter(Manifest)
