"""Makes the schemas of the documents served over HTTP, from docs/json.md for rlm/web/openapi.json.

The schema of each document has the keys of the page with its descriptions, and the types as far as names show them:
nesting, lists, durations. Each key may be missing, and more keys may be added.
"""

from __future__ import annotations

import re

from tests.acceptance.jsonpage import PAGE

#: The commands whose documents are served over HTTP, each with those whose keys it may also have.
COMMANDS = {
    "rlm status": ["rlm result", "rlm status"],
    **{
        name: [name]
        for name in (
            *("rlm list", "rlm queue stats", "rlm failed list", "rlm failed retry", "rlm failed drop", "rlm plan"),
            *("rlm endpoint list", "rlm endpoint pause", "rlm endpoint resume", "rlm endpoint limit", "rlm explain"),
            *("rlm worker list", "rlm compliance", "rlm start", "/api/scaling"),
        )
    },
}


#: Facts that the page states in sentences: documents that contain others of their kind.
NESTED = {
    "rlm explain": {
        "item_id": {"description": "of an item: its id"},
        "events": {"type": "array", "items": {"$ref": "#/components/schemas/rlm_explain"}},
    },
    "rlm plan": {"today": {"$ref": "#/components/schemas/rlm_plan", "description": "the plan as things are"}},
}


def rows(command):
    """Yield each key of a command's section with the meaning of its row."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## `{command}`\n")[2].partition("\n## ")[0]
    for cell, meaning in re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.MULTILINE):
        for key in re.findall(r"`([^`]+)`", cell):
            yield key, re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning)


def steps_of(key):
    """Split `by_type.TYPE.taken` and `[].id` into their steps; a list is the step `[]`."""
    return [step for step in re.split(r"\.|(?=\[\])", key) if step]


def put(schema, steps, meaning):
    """Describe a key below a schema."""
    if not steps:
        schema.setdefault("description", meaning)
        return
    step, *rest = steps
    if step == "[]":
        schema["type"] = ["array", "null"]
        put(schema.setdefault("items", {}), rest, meaning)
        return
    schema["type"] = ["object", "null"]
    if step.isupper():
        below = schema.setdefault("additionalProperties", {})
    else:
        below = schema.setdefault("properties", {}).setdefault(step, {})
        if not rest and step.endswith(("_seconds", "_ms")):
            below["type"] = ["number", "null"]
    put(below, rest, meaning)


def schema_of(sections):
    """Return the schema of a document with the keys of these sections; only nested values may be null."""
    schema = {}
    for command in sections:
        for key, meaning in rows(command):
            put(schema, steps_of(key), meaning)
    for command in sections:
        if command in NESTED:
            schema["properties"] |= NESTED[command]
    return {**schema, "type": schema["type"][0]}


def schemas():
    """Return the schema of each command's document."""
    return {name: schema_of(sections) for name, sections in COMMANDS.items()}
