"""The Kubernetes manifests: of the right form, without secrets, and scaled by a query that counts right."""

import shutil
import subprocess
from uuid import uuid4

import kubernetes_validate
import psycopg
import pytest
import yaml

from evaluator.shipped import SMOKE
from evaluator.store import RunStore
from tests.docker.dockerfile import DOCKER, IMAGES, instructions
from tests.evaluator.reports import report
from tests.servers import postgresql
from tests.test_docs import variables_of_the_evaluator, variables_of_the_site

FOLDER = DOCKER / "kubernetes"
CUSTOM = ("kustomize.config.k8s.io/", "keda.sh/")
"""Kinds that Kubernetes itself does not have."""

MANIFESTS = [
    manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
    if manifest["kind"] != "Kustomization"
]


def manifest(kind, name):
    (found,) = (one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pods():
    return [one["spec"]["template"]["spec"] for one in MANIFESTS if one["kind"] in ("Deployment", "Job")]


def containers():
    return [container for pod in pods() for container in pod["containers"]]


@pytest.mark.parametrize(
    "manifest",
    [one for one in MANIFESTS if not one["apiVersion"].startswith(CUSTOM)],
    ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}",
)
def test_a_manifest_has_the_form_that_kubernetes_asks_for(manifest):
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_all_manifests_are_applied_together():
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in FOLDER.iterdir())
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: nothing here says whether it can put the manifests together")
    built = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=True).stdout
    assert len(list(yaml.safe_load_all(built))) == len(MANIFESTS)


def test_no_secret_is_among_the_manifests():
    assert not [one for one in MANIFESTS if one["kind"] == "Secret"]


def test_settings_are_variables_that_somebody_reads():
    known = variables_of_the_evaluator() | variables_of_the_site()
    given = {name for one in MANIFESTS if one["kind"] == "ConfigMap" for name in one["data"]}
    given |= {entry["name"] for container in containers() for entry in container.get("env", [])}
    assert given <= known


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_a_pod_runs_without_root_rights_and_token(pod):
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    uid = pod["securityContext"]["runAsUser"]
    for container in pod["containers"]:
        (image,) = (path for path in IMAGES if f"robust-leaderboard-{path.stem}" == container["image"])
        assert ("USER", f"{uid}:{uid}") in instructions(image)
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_a_measuring_worker_gets_nothing_of_the_site_and_reaches_few_others():
    template = manifest("Deployment", "evaluation")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    sources = [source.get("secretRef", source.get("configMapRef"))["name"] for source in container["envFrom"]]
    assert set(sources) == {"leaderboard-stores"}
    policy = manifest("NetworkPolicy", "evaluation")["spec"]
    assert policy["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    assert all(rule["to"] and rule["ports"] for rule in policy["egress"])


def test_probes_ask_pages_that_there_are_by_a_name_that_the_site_knows():
    (web,) = manifest("Deployment", "web")["spec"]["template"]["spec"]["containers"]
    allowed = manifest("ConfigMap", "leaderboard-site")["data"]["ALLOWED_HOSTS"].split(",")
    assert web["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for probe in (web["livenessProbe"], web["readinessProbe"]):
        headers = {header["name"]: header["value"] for header in probe["httpGet"]["httpHeaders"]}
        assert headers["Host"] in allowed
        assert headers["X-Forwarded-Proto"] == "https"


def test_workers_are_scaled_by_the_shards_that_wait_or_run_in_runs_that_have_not_ended():
    (trigger,) = manifest("ScaledObject", "evaluation")["spec"]["triggers"]
    assert manifest("TriggerAuthentication", trigger["authenticationRef"]["name"])
    with postgresql() as url:
        store = RunStore(url)
        store.create_tables()

        def counted():
            with psycopg.connect(url) as connection:
                (row,) = connection.execute(trigger["metadata"]["query"]).fetchall()
                (count,) = row
                return count

        assert counted() == 0
        first, second = uuid4(), uuid4()
        store.create_run(first, SMOKE, "ab" * 32)
        per_run = counted()
        assert per_run > 1
        store.create_run(second, SMOKE, "cd" * 32, audit_share=1e-9)
        assert counted() == 2 * per_run
        claim = store.claim("worker", run_id=first, target_seconds=0)
        with_a_rest = counted()  # a shard that is cut for its worker leaves another that waits
        assert with_a_rest >= 2 * per_run
        store.finish(claim, report(claim.protocol, claim.spec))
        assert counted() == with_a_rest - 1
        store.cancel(first)
        assert counted() == per_run
        while (claim := store.claim("worker", run_id=second)) is not None and not claim.audit:
            store.finish(claim, report(claim.protocol, claim.spec))
            store.complete(second)
        assert counted() == 1  # what is measured again waits too
        store.close()
