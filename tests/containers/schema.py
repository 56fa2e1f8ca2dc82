"""Faults of a compose file or a manifest, by the schemas in `schemas/`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).with_name("schemas")
#: What a trigger of KEDA may contain, by its type; its definition leaves that open.
_SAID_BY = {
    "metrics-api": {"url", "valueLocation", "targetValue", "activationTargetValue", "format", "authMode", "unsafeSsl"},
    "prometheus": {"serverAddress", "query", "threshold", "activationThreshold", "namespace", "ignoreNullValues"},
}


def documents(path):
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def manifest_faults(document):
    """Return what Kubernetes or KEDA would refuse in a manifest, a line each."""
    checker = _checkers().get(f"{document.get('apiVersion')} {document.get('kind')}")
    if checker is None:
        return [f"no such kind: {document.get('apiVersion')} {document.get('kind')}"]
    return [*_told(checker, document), *_trigger_faults(document)]


def compose_faults(document):
    """Return what does not follow the Compose Specification, a line each."""
    return _told(_compose(), document)


def _told(checker, document):
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(document)]


def _trigger_faults(document):
    triggers = document.get("spec", {}).get("triggers", []) if document.get("kind") == "ScaledObject" else []
    for trigger in triggers:
        said = set(trigger.get("metadata", ()))
        if foreign := said - _SAID_BY.get(trigger.get("type"), set()):
            yield f"{trigger.get('type')} does not take {', '.join(sorted(foreign))}"


@cache
def _checkers():
    checkers = {}
    for name in ("kubernetes", "keda"):
        vendored = json.loads((SCHEMAS / f"{name}.json").read_text())
        for kind, schema in vendored["kinds"].items():
            checkers[kind] = Draft202012Validator({**schema, "$defs": vendored.get("$defs", {})})
    return checkers


@cache
def _compose():
    return Draft202012Validator(json.loads((SCHEMAS / "compose.json").read_text()))
