"""The compose file and the Kubernetes manifests fit their schemas, the image, and RLM's needs."""

from __future__ import annotations

import copy
import re
import tomllib

import click
import pytest

from rlm import __version__
from rlm.cli.group import rlm
from rlm.processes.alive import ALIVE_VARIABLE, TOUCH_SECONDS
from rlm.processes.signals import supervisor_grace
from rlm.settings import load_settings
from tests.containers.containerfile import ROOT, Step, stages
from tests.containers.schema import compose_faults, documents, manifest_faults
from tests.each import each

CONTAINERS = ROOT / "docs" / "containers"
KUBERNETES = ROOT / "docs" / "kubernetes"
KUSTOMIZATION = documents(KUBERNETES / "kustomization.yaml")[0]
MANIFESTS = {
    path.name: documents(path) for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "kustomization.yaml"
}
ALL = [(name, document) for name, found in MANIFESTS.items() for document in found]
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for _, document in ALL
    if "template" in document.get("spec", {})
}
COMPOSE = documents(CONTAINERS / "compose.yaml")[0]
SERVICES = COMPOSE["services"]
IMAGE = stages()[-1]
#: Below these keys everybody chooses the names.
FREE = {"data", "stringData", "labels", "matchLabels", "requests", "limits", "selector"}


def misspelt(node, path=()):
    """Yield the path to each key of a manifest whose name is fixed."""
    if isinstance(node, list):
        for index, one in enumerate(node):
            yield from misspelt(one, (*path, index))
    elif isinstance(node, dict) and not (path and path[-1] in FREE and not ({"matchLabels"} & set(node))):
        for key in node:
            yield (*path, key)
            yield from misspelt(node[key], (*path, key))


def with_misspelt(document, path):
    """Return a copy of a manifest in which the last key of the path has another name."""
    changed = copy.deepcopy(document)
    node = changed
    for step in path[:-1]:
        node = node[step]
    node[f"{path[-1]}x"] = node.pop(path[-1])
    return changed


@each(("name", "document"), ALL)
def test_a_manifest_fits_its_schema(name, document):
    """Kubernetes, or KEDA, would take it."""
    assert manifest_faults(document) == [], name


def test_a_misspelt_field_is_found():
    """The schemas are strict: each field of each manifest, renamed, is a fault."""
    tried, missed = set(), []
    for name, document in ALL:
        keda = document["apiVersion"].startswith("keda")
        for path in misspelt(document):
            if keda and path[0] == "metadata":
                continue
            kind_of_field = (document["kind"], *(step for step in path if isinstance(step, str)))
            if kind_of_field in tried:
                continue
            tried.add(kind_of_field)
            if not manifest_faults(with_misspelt(document, path)):
                missed.append((name, path))

    assert missed == []
    assert len(tried) > 150


@pytest.mark.parametrize("broken", [{"services": {"a": {"image": "rlm", "read_onyl": True}}}, {"servces": {}}])
def test_the_compose_file_follows_its_specification(broken):
    """It has no fault, and what is misspelt would be one."""
    assert compose_faults(COMPOSE) == []
    assert compose_faults(broken)


def test_every_manifest_is_applied_or_an_alternative():
    """`kubectl apply -k` takes all but what stands in place of another, and labels nothing that selects."""
    applied = set(KUSTOMIZATION["resources"])

    assert set(MANIFESTS) - applied == {"keda.yaml", "keda-prometheus.yaml", "worker.yaml"}
    assert KUSTOMIZATION["images"] == [{"name": "rlm", "newTag": __version__}]
    assert KUSTOMIZATION["namespace"] == MANIFESTS["namespace.yaml"][0]["metadata"]["name"]


@each("name", sorted(PODS))
def test_a_pod_may_no_more_than_it_must(name):
    """No root, no capability, no token of the cluster, nothing to write but its volumes; bounds for its memory."""
    pod = PODS[name]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        volumes = {mount["name"] for mount in container["volumeMounts"]}
        assert volumes <= {volume["name"] for volume in pod["volumes"]} | {"data"}


def rlm_pods():
    return {name: pod for name, pod in PODS.items() if name != "valkey"}


@each("name", sorted(rlm_pods()))
def test_a_pod_of_rlm_runs_as_the_image_says(name):
    """It has the image's user and places, a command of `rlm`, and the time that its calls need to end."""
    pod = PODS[name]
    (container,) = pod["containers"]
    uid, gid = map(int, IMAGE.last("USER").said.split(":"))
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (uid, gid, gid)

    assert_command(container["command"][1:])
    assert container["command"][:1] == IMAGE.last("ENTRYPOINT").words
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {IMAGE.last("WORKDIR").said, "/tmp", IMAGE.env["RLM_DATA_DIR"].rpartition("/")[0]}

    needed = 0 if "web" in name else supervisor_grace(load_settings(None))
    assert pod["terminationGracePeriodSeconds"] > needed
    probe = container["livenessProbe"]
    if "web" in name:
        assert probe["httpGet"]["path"] == container["readinessProbe"]["httpGet"]["path"] == "/login"
    else:
        assert probe["exec"]["command"] == IMAGE.health[0]
        assert container["readinessProbe"]["exec"]["command"] == ["test", "-f", IMAGE.env[ALIVE_VARIABLE]]


@each("name", sorted(rlm_pods()))
def test_the_variables_of_a_pod_are_settings(name):
    """A misspelt one would end the process with exit code 2."""
    (container,) = PODS[name]["containers"]
    environ = {one["name"]: one["value"] for one in container.get("env", [])} | {"RLM_TOKEN": "x" * 16}

    settings = load_settings(None, environ)

    asked = environ.get("RLM_WORKERS__MAX_HERE", 0)
    assert settings.workers.max_here == int(asked)


def assert_command(words):
    """Fail unless these words are a command of `rlm` with valid options."""
    command, context = rlm, click.Context(rlm)
    for word in words:
        if isinstance(command, click.Group):
            command = command.get_command(context, word)
            assert command is not None, words
    options = {word for word in words if word.startswith("--")}
    assert options <= {flag for param in command.params for flag in param.opts}


def test_each_budget_and_each_service_finds_its_pods():
    """What selects pods names a role that there is."""
    roles = {
        document["spec"]["template"]["metadata"]["labels"]["rlm-role"]
        for _, document in ALL
        if "template" in document.get("spec", {})
    }
    selected = {"PodDisruptionBudget": set(), "Service": set(), "NetworkPolicy": set()}
    for _, document in ALL:
        if document["kind"] in selected:
            selected[document["kind"]] |= set(
                re.findall(r"'rlm-role': '(\w+)'|'(scheduler|supervisor|worker|web)'", str(document["spec"]))
            )
    named = {kind: {role for pair in found for role in pair if role} for kind, found in selected.items()}

    assert named["PodDisruptionBudget"] == {"scheduler", "supervisor", "worker"}
    assert named["Service"] == {"scheduler", "web", "valkey"}
    assert named["NetworkPolicy"] == roles


def test_the_secret_has_what_is_asked_of_it():
    """Every key that a pod or KEDA reads is there, and none holds a secret yet."""
    (secret,) = MANIFESTS["secret.yaml"]
    asked = set(re.findall(r"'(?:key|REDIS_URL)': '([A-Z_]+)'", str(ALL))) | {"REDIS_URL"}

    assert set(secret["stringData"]) == asked
    assert all("CHANGE-ME" in value for value in secret["stringData"].values())


@pytest.mark.parametrize("where", ["kubernetes", "compose"])
def test_the_configuration_can_be_used(where, tmp_path):
    """The ConfigMap's, whose `web.hosts` lets KEDA in, and that of the compose file."""
    text = (
        MANIFESTS["config.yaml"][0]["data"]["rlm.toml"]
        if where == "kubernetes"
        else (CONTAINERS / "rlm.toml").read_text()
    )
    (tmp_path / "rlm.toml").write_text(text)
    settings = load_settings(tmp_path / "rlm.toml", {})

    if where == "kubernetes":
        url = MANIFESTS["keda.yaml"][1]["spec"]["triggers"][0]["metadata"]["url"]
        assert re.fullmatch(r"http://([^:/]+):8088/api/scaling", url)[1] in settings.web.hosts
    else:
        assert {endpoint.url.split("/")[2] for endpoint in settings.endpoints.values()} == {"mock-api:8090"}
    assert tomllib.loads(text)["types"]


@pytest.mark.parametrize("file", [KUBERNETES / "valkey.yaml", CONTAINERS / "compose.yaml"], ids=lambda path: path.name)
def test_valkey_is_set_up_as_the_quickstart_sets_up_a_redis(file):
    """Each line of its configuration but that of the users, who are one here."""
    lines = re.search(r"^appendonly yes\n(?:.+\n)+", (ROOT / "docs" / "quickstart.md").read_text(), re.MULTILINE)[0]
    asked = {line for line in lines.splitlines() if re.match(r"[a-z-]+ \S+$", line) and "aclfile" not in line}
    command = file.read_text()

    assert len(asked) == 6
    assert {line for line in asked if f"--{line}" not in command} == set()


def test_valkey_is_the_same_user_everywhere():
    """That of its image, which has the same number as a user and as a group: so its volume is its own."""
    context = PODS["valkey"]["securityContext"]
    uid, gid, volume_gid = (context[name] for name in ("runAsUser", "runAsGroup", "fsGroup"))

    assert uid == gid == volume_gid
    assert SERVICES["valkey"]["user"] == f"{uid}:{gid}"


def test_both_scalers_ask_the_same():
    """KEDA by /api/scaling and by Prometheus: the same pods, the same number of workers each."""
    by_api, by_prometheus = (
        copy.deepcopy(MANIFESTS[name][-1]["spec"]) for name in ("keda.yaml", "keda-prometheus.yaml")
    )
    api, prometheus = by_api.pop("triggers")[0]["metadata"], by_prometheus.pop("triggers")[0]["metadata"]

    assert by_api == by_prometheus
    assert (api["valueLocation"], api["targetValue"]) == ("wanted", prometheus["threshold"])
    assert {"name": "RLM_WORKERS__MAX_HERE", "value": api["targetValue"]} in PODS["rlm-supervisor"]["containers"][0][
        "env"
    ]
    assert (by_api["maxReplicaCount"] - 1) * int(api["targetValue"]) >= load_settings(None, {}).workers.max
    assert "rlm_workers_wanted" in prometheus["query"]


@each("name", sorted(SERVICES))
def test_a_service_may_no_more_than_it_must(name):
    """In the compose file, too: a user, no capability, nothing to write but its volumes, a check, time to stop."""
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0].isdigit()
    # podman-compose breaks lists: 1.3 those that begin with CMD, 1.4 those that begin with CMD-SHELL.
    assert isinstance(service["healthcheck"]["test"], str)
    needed = supervisor_grace(load_settings(None, {})) if name in {"scheduler", "supervisor"} else 0
    assert float(service["stop_grace_period"].removesuffix("s")) > needed
    if name == "valkey":
        return
    assert service["user"] == IMAGE.last("USER").said
    assert_command(service["command"])
    if name != "mock-api":
        assert service["hostname"] == name  # a container that is made anew is the same host
        assert IMAGE.health[0] == ["sh", "-c", service["healthcheck"]["test"].replace("$$", "$")]
        assert service["depends_on"] == {"valkey": {"condition": "service_healthy"}}


def test_the_environment_file_has_what_compose_asks_for():
    """Each variable that it puts in stands in env.example, without a value."""
    asked = set(re.findall(r"(?<!\$)\$\{(\w+):\?[^}]+\}", (CONTAINERS / "compose.yaml").read_text()))
    said = [line for line in (CONTAINERS / "env.example").read_text().splitlines() if not line.startswith("#")]

    assert {line.partition("=")[0] for line in said} == asked
    assert all(line.endswith("=") for line in said)


def test_the_image_can_be_run_read_only_by_anybody():
    """A numeric user, exec form, so that TERM reaches rlm, and a health check that a living loop passes."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", IMAGE.last("USER").said)
    assert IMAGE.last("ENTRYPOINT").words == ["rlm"]
    assert_command(IMAGE.last("CMD").words[:0])

    command, options = IMAGE.health
    assert f"find {IMAGE.env[ALIVE_VARIABLE]} -mmin -1" in command[-1]
    assert 3 * TOUCH_SECONDS < 60
    assert set(options) == {"interval", "timeout", "start-period", "retries"}


def test_the_image_holds_what_was_tested():
    """Its libraries are those of docs/constraints.txt, each checked by its hash, and its base is named in one place."""
    steps = " ".join(step.said for stage in stages() for step in stage.steps)

    assert "--require-hashes --requirement /build/constraints.txt" in steps
    assert "docs/constraints.txt dist/rate_limit_manager-*.whl" in steps
    assert Step("ARG", "PIP_INDEX_URL") in stages()[1].steps  # from a mirror, if there is one
    assert [stage.base for stage in stages()] == ["debian:trixie-slim", "base", "base"]
