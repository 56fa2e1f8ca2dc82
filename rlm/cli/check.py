"""The installation: a first configuration (`rlm init`), the one in force (`rlm config`), how all is (`rlm doctor`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from rlm.cli.common import command, print_json, settings_of, show, table, volatile_option
from rlm.core.errors import ConfigurationError, RLMError
from rlm.core.text import counted


@command(
    "rlm init                     # here",
    "rlm init /etc/rlm",
    params=[
        click.Argument(
            ["directory"], type=click.Path(path_type=Path, file_okay=False), default=".", metavar="[DIRECTORY]"
        )
    ],
)
def init(config: Path | None, directory: Path) -> None:
    """Write a commented rlm.toml and a Procfile to begin with; a file that exists is kept. Prints what to type next."""
    from rlm.settings.layers import FIRST

    if config is not None:
        settings_of(config)  # it is not used, but a faulty file is reported
    files: dict[str, list[str]] = {"written": [], "kept": []}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("rlm.toml", "Procfile"):
            path = directory / name
            what = "kept" if path.exists() or path.is_symlink() else "written"
            files[what].append(name)
            if what == "written":
                path.write_bytes((FIRST / name).read_bytes())
    except OSError as error:
        where = error.filename or directory
        raise RLMError(f"{where} cannot be written: {error.strerror}; choose another DIRECTORY") from error
    show("\n".join(f"{what:<7}  {directory / name}" for what, names in files.items() for name in names))
    here = directory.absolute()
    print_json({"directory": str(here), **files})
    show(f"""
Next, to see a run with these settings, in {here}:

  1. rlm mock-api        in a second terminal: the API that these settings call
  2. rlm up              in a third one: the server, a scheduler, a supervisor
  3. echo '{{"id":"a-1","wallet_name":"w-1","events":["REBALANCE_NEEDED"]}}' | rlm queue push
  4. rlm start --wait    sends what waits, and shows what became of it

Then name your own APIs in rlm.toml; `rlm doctor` says whether all is well.""")


@click.group()
def config() -> None:
    """See the configuration and where each value comes from; check it."""


@command("rlm config show", "rlm config show --json | jq '.settings[\"redis.url\"]'", name="show", group=config)
def show_settings(config: Path | None) -> None:
    """Show every setting, its value, and where the value comes from; secrets are masked."""
    from rlm.settings.layers import written

    settings = settings_of(config)
    file = settings.source and str(settings.source)
    print_json({"file": file, "revision": settings.revision, "settings": settings.shown})
    where = f"The file is {file}." if file else "There is no file; `rlm init` writes one."
    show(f"{where} Revision {settings.revision}.\n")
    rows = [[key, each.value and written(each.value), each.where] for key, each in settings.shown.items()]
    table("setting|value|from", rows)


@command("rlm config check", "rlm config check --config /etc/rlm/rlm.toml && systemctl restart rlm", group=config)
def check(config: Path | None) -> None:
    """Check whether the configuration can be used; print everything that is wrong with it, and exit with 2 then."""
    try:
        settings = settings_of(config)
    except ConfigurationError as error:
        print_json({"ok": False, "file": None, "faults": str(error).splitlines()})
        raise
    print_json({"ok": True, "file": settings.source and str(settings.source), "faults": []})
    facts = f"{counted(len(settings.types), 'type')}, {counted(len(settings.endpoints), 'endpoint')}"
    show(f"ok  {settings.source or 'the built-in defaults'} can be used: {facts}. Revision {settings.revision}.")


@command("rlm doctor", "rlm doctor --json | jq '.findings[] | select(.ok | not)'", params=[volatile_option])
def doctor(*, config: Path | None, allow_volatile: bool) -> None:
    """Check the installation; print every condition with what to do, the worst first, and what is well.

    With a faulty configuration, what lives at its Redis. Exits with 0 if no condition is an error; with 2 for the
    configuration, 4 if one of Redis is an error, 1 if any other is.
    """
    from rlm.admin.conditions import examine
    from rlm.settings import load_settings

    fault = None
    try:
        settings = settings_of(config)
    except ConfigurationError as error:
        show("The configuration has faults. What lives goes on with that with which it began; nothing new starts.\n")
        settings, fault = load_settings(config, lenient=True), error
    examination = examine(settings, allow_volatile=allow_volatile, fault=str(fault or ""))
    print_json(examination)
    styles = {"error": "bold red", "warning": "yellow", "info": "cyan"}
    rows: list[list[object]] = [
        [(each.severity, styles[each.severity]), each.code, f"{each.sentence} > {each.remedy}"]
        for each in examination.conditions
    ]
    rows += [[("ok", "green"), each.name, None] for each in examination.findings if each.ok]
    table("state|check|what, and what to do", rows)
    if fault:
        raise fault
    number = Counter[str](condition.severity for condition in examination.conditions)
    parts = [counted(number[severity], severity) for severity in styles if number[severity]]
    show(f"\n{', '.join(parts)}." if parts else "\nAll is well.")
    if not examination.ok:
        errors = [each.code for each in examination.conditions if each.severity == "error"]
        raise SystemExit(4 if any(code.startswith("redis_") for code in errors) else 1)
