"""Each command and setting in the files of docs/deployment/ exists, and each process has the time it needs to stop."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

from rlm.processes.signals import Layer, grace_seconds
from rlm.settings import load_settings
from tests.unit.test_docs import find_command, flags_of

FOLDER = Path(__file__).parents[2] / "docs" / "deployment"
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for document in DOCUMENTS
    if document["kind"] in {"StatefulSet", "Deployment"}
}
UNIT = FOLDER / "rlm@.service"
#: The processes that run as services, and the seconds that each may need to stop.
GRACE = {
    "up": grace_seconds(load_settings(None, {}), Layer.GROUP),
    "scheduler": grace_seconds(load_settings(None, {}), Layer.SUPERVISOR),
    "supervisor": grace_seconds(load_settings(None, {}), Layer.SUPERVISOR),
    "web": 0.0,
}


def assert_command(words):
    """Fail unless these words are a command of `rlm` with options that it has."""
    assert {word for word in words if word.startswith("--")} <= flags_of(find_command(words)[0])


def document(kind, name):
    return next(found for found in DOCUMENTS if (found["kind"], found["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("name", GRACE)
def test_the_unit_starts_a_command_and_leaves_it_the_time_to_stop(name):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    service = unit["Service"]

    assert_command(service["ExecStart"].replace("%i", name).split()[1:])
    assert float(service["TimeoutStopSec"]) > GRACE[name]
    assert service["KillMode"] == "mixed"  # workers get one TERM only, by their supervisor
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"  # Redis is waited for, however long


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_may_no_more_than_it_must(name):
    pod = PODS[name]
    (container,) = pod["containers"]

    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    if name != "valkey":
        assert container["command"][0] == "rlm"
        assert_command(container["command"][1:])
        assert pod["terminationGracePeriodSeconds"] > GRACE[container["command"][1]]


def test_the_settings_of_the_manifests_exist(tmp_path):
    """A misspelt variable or key would end the process; `web.hosts` lets KEDA in."""
    (tmp_path / "rlm.toml").write_text(document("ConfigMap", "rlm")["data"]["rlm.toml"])
    variables = {
        entry["name"]: entry["value"]
        for pod in PODS.values()
        for entry in pod["containers"][0].get("env", [])
        if "value" in entry
    }
    settings = load_settings(tmp_path / "rlm.toml", variables | {"RLM_TOKEN": "x" * 16})
    spec = document("ScaledObject", "rlm-supervisor")["spec"]
    trigger = spec["triggers"][0]["metadata"]

    assert re.fullmatch(r"http://([^:/]+):8088/api/scaling", trigger["url"])[1] in settings.web.hosts
    assert settings.workers.max_here == int(trigger["targetValue"])
    assert (spec["maxReplicaCount"] - 1) * settings.workers.max_here >= settings.workers.max
