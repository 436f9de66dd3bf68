from pathlib import Path

import pytest

from evaluator.environment import ROOT, read_environment
from evaluator.exceptions import InvalidSetting


def test_an_empty_environment_is_the_embedded_default_below_the_root():
    here = read_environment({})
    assert here.run_store_url == f"sqlite:///{ROOT}/var/runs.sqlite3"
    assert here.broker_url == f"sqla+sqlite:///{ROOT}/var/broker.sqlite3"
    assert here.artifacts_url == f"{ROOT}/var/artifacts"
    assert (here.data_dir, here.training_dir) == (ROOT / "var/data", ROOT / "var/training")
    assert (here.device, here.lease_seconds, here.sandbox) == ("auto", 60, "auto")
    assert (ROOT / "pyproject.toml").exists()


def test_empty_values_count_as_unset():
    names = (
        "RUN_STORE_URL", "QUEUE_URL", "ARTIFACTS_URL", "DATA_DIR", "TRAINING_DIR", "EVALUATION_DEVICE", "LEASE_SECONDS",
    )  # fmt: skip  # a list of words
    assert read_environment(dict.fromkeys(names, "")) == read_environment({})


def test_servers_object_stores_and_absolute_paths_stay_as_they_are():
    here = read_environment(
        {
            "RUN_STORE_URL": "postgresql://runs@db/runs",
            "QUEUE_URL": "redis://queue:6379/0",
            "ARTIFACTS_URL": "s3://bucket/artifacts",
            "DATA_DIR": "/data",
            "EVALUATION_DEVICE": "cuda:1",
            "LEASE_SECONDS": "7.5",
        }
    )
    assert here.run_store_url == "postgresql://runs@db/runs"
    assert here.broker_url == "redis://queue:6379/0"
    assert here.artifacts_url == "s3://bucket/artifacts"
    assert (here.data_dir, here.device, here.lease_seconds) == (Path("/data"), "cuda:1", 7.5)
    assert read_environment({"RUN_STORE_URL": "sqlite:////tmp/runs"}).run_store_url == "sqlite:////tmp/runs"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUN_STORE_URL", "mysql://db/runs"),
        ("RUN_STORE_URL", "sqlite://"),
        ("RUN_STORE_URL", "runs.sqlite3"),
        ("QUEUE_URL", "sqlite:///queue"),
        ("QUEUE_URL", "filesystem://"),
        ("EVALUATION_DEVICE", "gpu"),
        ("EVALUATION_DEVICE", "cuda:"),
        ("LOG_FORMAT", "xml"),
        ("SANDBOX", "docker"),
        ("LEASE_SECONDS", "a minute"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "nan"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(name, value):
    with pytest.raises(InvalidSetting, match=rf"{name} .* expected"):
        read_environment({name: value})


def test_a_refused_address_does_not_show_its_password():
    with pytest.raises(InvalidSetting) as refusal:
        read_environment({"RUN_STORE_URL": "mysql://runs:secret@db/runs"})
    assert "secret" not in str(refusal.value)
