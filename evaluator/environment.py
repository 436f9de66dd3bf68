"""Settings of every process, read from environment variables; a wrong value is refused at start (torch-free).

| variable | default | meaning |
|---|---|---|
| `RUN_STORE_URL` | `sqlite:///var/runs.sqlite3` | database of runs and shards: `sqlite:///…` or `postgresql://…` |
| `QUEUE_URL` | `sqla+sqlite:///var/broker.sqlite3` | where wake-ups queue: `sqla+sqlite:///…` or `redis[s]://…` |
| `ARTIFACTS_URL` | `var/artifacts` | checkpoints by content: a folder, or any address fsspec knows |
| `DATA_DIR` | `var/data` | folder of data sets that are not bundled |
| `TRAINING_DIR` | `var/training` | folder of trainings, a folder each |
| `EVALUATION_DEVICE` | `auto` | `auto`, `cpu`, `cuda` or `cuda:n` |
| `LEASE_SECONDS` | `60` | how long a silent worker keeps its shard or training |
| `LOG_FORMAT` | `text` | `text` for people, or `json`: an object a line |
| `SHARD_SECONDS` | `7200` | how long a shard may take before its measuring process is ended |
| `SANDBOX` | `auto` | walls around strangers' weights: `auto`, `bubblewrap`, `plain` or `off` |
| `AUDIT_SHARE` | `0.02` | which share of the shards of ranked runs is measured again; `0`: none |

It is not called `BROKER_URL`, because Celery's command line would take that for itself, before paths are resolved.
Relative paths, also inside SQLite addresses, count from the repository's root, so that all processes agree.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluator.exceptions import InvalidSetting

ROOT = Path(__file__).resolve().parents[1]

DEVICE_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")
"""How a device may be called; `evaluator.devices` finds it."""

_SQLITE = re.compile(r"((?:sqla\+)?sqlite:///)(.+)")


@dataclass(frozen=True)
class Environment:
    """What a process was told; see the table above."""

    run_store_url: str
    broker_url: str
    artifacts_url: str
    data_dir: Path
    training_dir: Path
    device: str
    lease_seconds: float
    shard_seconds: float
    audit_share: float
    log_format: str
    sandbox: str


def read_environment(variables: Mapping[str, str] = os.environ) -> Environment:
    """Return the settings that `variables` hold, defaults for the rest.

    Raises:
        InvalidSetting: a value cannot be used; the message names the variable and what would be right.
    """
    return Environment(
        run_store_url=_url(variables, "RUN_STORE_URL", "sqlite:///var/runs.sqlite3", ("sqlite", "postgresql")),
        broker_url=_url(
            variables, "QUEUE_URL", "sqla+sqlite:///var/broker.sqlite3", ("sqla+sqlite", "redis", "rediss")
        ),
        artifacts_url=_artifacts(variables.get("ARTIFACTS_URL") or "var/artifacts"),
        data_dir=ROOT / (variables.get("DATA_DIR") or "var/data"),
        training_dir=ROOT / (variables.get("TRAINING_DIR") or "var/training"),
        device=_device(variables.get("EVALUATION_DEVICE") or "auto"),
        lease_seconds=_seconds(variables, "LEASE_SECONDS", "60", 1, 3600),
        shard_seconds=_seconds(variables, "SHARD_SECONDS", "7200", 10, 7 * 24 * 3600),
        log_format=_one_of(variables, "LOG_FORMAT", ("text", "json")),
        sandbox=_one_of(variables, "SANDBOX", ("auto", "bubblewrap", "plain", "off")),
        audit_share=_number(variables, "AUDIT_SHARE", "0.02", 0, 1, "a share"),
    )


def _url(variables: Mapping[str, str], name: str, default: str, schemes: tuple[str, ...]) -> str:
    url = variables.get(name) or default
    scheme = url.partition("://")[0]
    if scheme not in schemes or not url.partition("://")[2].strip("/"):
        expected = " or ".join(f"{scheme}://…" for scheme in schemes)
        raise InvalidSetting(f"{name} has the scheme {scheme!r} or names no place; expected {expected}")
    if match := _SQLITE.fullmatch(url):
        return f"{match[1]}{ROOT / match[2]}"
    return url


def _artifacts(url: str) -> str:
    return url if "://" in url else str(ROOT / url)


def _device(name: str) -> str:
    if not DEVICE_NAME.fullmatch(name):
        raise InvalidSetting(f"EVALUATION_DEVICE is {name!r}; expected auto, cpu, cuda or cuda:n")
    return name


def _one_of(variables: Mapping[str, str], name: str, values: tuple[str, ...]) -> str:
    """Return the value of a variable, of which the first is the default."""
    value = variables.get(name) or values[0]
    if value not in values:
        raise InvalidSetting(f"{name} is {value!r}; expected {', '.join(values[:-1])} or {values[-1]}")
    return value


def _seconds(variables: Mapping[str, str], name: str, default: str, least: int, most: int) -> float:
    return _number(variables, name, default, least, most, "a number of seconds")


def _number(variables: Mapping[str, str], name: str, default: str, least: int, most: int, what: str) -> float:
    text = variables.get(name) or default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise InvalidSetting(f"{name} is {text!r}; expected {what} from {least} to {most}")
    return number
