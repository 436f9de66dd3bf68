"""The compose file: complete, closed to strangers, and unable to start without its secrets."""

import os
import re
import shutil
import subprocess

import psycopg
import pytest
import yaml

from tests.docker.dockerfile import DOCKER
from tests.servers import postgresql
from tests.test_docs import variables_of_the_evaluator, variables_of_the_site

COMPOSE = DOCKER / "compose.yaml"
CONTENT = COMPOSE.read_text()
SERVICES = yaml.safe_load(CONTENT)["services"]
WORKERS = ("evaluation-worker", "training-worker")
SITE = ("migrate", "web", "site-worker")
SECRETS = re.findall(r"^(\w+)=$", (DOCKER / "example.env").read_text(), re.MULTILINE)


@pytest.fixture
def secrets(tmp_path):
    """Write an environment file as somebody would fill it in."""
    file = tmp_path / "env"
    file.write_text(re.sub(r"^(\w+)=$", r"\1=secret-of-\1", (DOCKER / "example.env").read_text(), flags=re.MULTILINE))
    return file


def read_by_compose(env_file):
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed: nothing here says whether it can read the compose file")
    return subprocess.run(
        [program, "--file", COMPOSE, "--env-file", env_file, "config"],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_compose_reads_the_file_and_fills_in_every_secret(secrets):
    finished = read_by_compose(secrets)
    assert finished.returncode == 0, finished.stderr
    services = yaml.safe_load(finished.stdout)["services"]
    assert services.keys() == SERVICES.keys()
    url = "postgresql://runs:secret-of-RUNS_PASSWORD@postgresql:5432/runs"
    assert all(services[name]["environment"]["RUN_STORE_URL"] == url for name in (*WORKERS, *SITE))


def test_compose_refuses_to_start_with_the_example_as_it_is():
    finished = read_by_compose(DOCKER / "example.env")
    assert finished.returncode != 0
    assert "set it in docker/.env" in finished.stderr


def test_every_secret_is_required_and_every_variable_is_in_the_example():
    used = re.findall(r"(?<!\$)\$\{(\w+)(:[?-])?", CONTENT)
    example = set(re.findall(r"^(\w+)=", (DOCKER / "example.env").read_text(), re.MULTILINE))
    assert {name for name, _ in used} == example
    assert SECRETS
    assert {operator for name, operator in used if name in SECRETS} == {":?"}


@pytest.mark.parametrize("service", [*WORKERS, *SITE])
def test_a_container_of_ours_gets_only_variables_that_somebody_reads(service):
    known = variables_of_the_evaluator() | variables_of_the_site()
    assert SERVICES[service]["environment"].keys() <= known


@pytest.mark.parametrize("service", [*WORKERS, *SITE])
def test_a_container_of_ours_has_no_rights_and_writes_to_its_volumes_only(service):
    settings = SERVICES[service]
    assert settings["read_only"]
    assert settings["tmpfs"] == ["/tmp"]
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert (COMPOSE.parent / settings["build"]["context"] / settings["build"]["dockerfile"]).exists()


@pytest.mark.parametrize("service", WORKERS)
def test_a_gpu_worker_holds_no_secret_of_the_site_and_reaches_the_stores_alone(service):
    settings = SERVICES[service]
    assert settings["environment"].keys() == {"RUN_STORE_URL", "QUEUE_URL", "EVALUATION_DEVICE"}
    assert "SITE_PASSWORD" not in str(settings)
    assert settings["networks"] == ["stores"]
    assert yaml.safe_load(CONTENT)["networks"]["stores"] == {"internal": True}
    assert "ports" not in settings


def test_a_measuring_worker_cannot_change_checkpoints_or_data_sets():
    volumes = SERVICES["evaluation-worker"]["volumes"]
    assert len(volumes) == 2
    assert all(volume.endswith(":ro") for volume in volumes)


def test_only_the_web_server_is_published_and_on_this_host_alone_unless_told_otherwise():
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "web": ["${PUBLISH:-127.0.0.1:8000}:8000"]
    }


def test_everything_waits_for_the_tables_and_those_for_healthy_servers():
    for name in ("web", "site-worker", *WORKERS):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for server in ("postgresql", "redis"):
        assert SERVICES["migrate"]["depends_on"][server] == {"condition": "service_healthy"}
    assert all("test" in SERVICES[name]["healthcheck"] for name in ("postgresql", "redis", "site-worker"))


@pytest.mark.parametrize("service", ["postgresql", "redis"])
def test_servers_are_of_one_exact_version(service):
    assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-[a-z]+", SERVICES[service]["image"])


def test_each_role_of_the_database_server_enters_its_own_database_only():
    with postgresql() as url:
        script = DOCKER / "databases.sh"
        server = psycopg.conninfo.conninfo_to_dict(url)
        variables = {"PGHOST": server["host"], "PGPORT": server["port"], "POSTGRES_USER": server["user"]}
        passwords = {"SITE_PASSWORD": "it's a secret", "RUNS_PASSWORD": 'so "is" this'}
        subprocess.run([script], env={"PATH": os.environ["PATH"]} | variables | passwords, check=True)
        for role, other in (("site", "runs"), ("runs", "site")):
            with psycopg.connect(url, user=role, dbname=role) as connection:
                connection.execute("CREATE TABLE mine (id integer)")
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(url, user=role, dbname=other)
