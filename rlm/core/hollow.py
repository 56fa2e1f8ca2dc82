"""Modules that stay empty until a name in them is used.

When redis-py and limits are imported, they also import their asynchronous halves. These take as long as the rest and a
quarter of a process's memory. redis-py also imports a reader of package versions, and with it mail parsing. RLM uses
none of this. Other users in the same process notice nothing: the first look-up of a name in such a module executes it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

#: Modules that libraries import and RLM does not use.
UNUSED = frozenset({"redis.asyncio", "limits.aio", "importlib.metadata"})

_filling = threading.RLock()


class HollowFinder:
    """Finds the modules of `UNUSED` where they are, and leaves them empty at first. For `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the specification of a module of `UNUSED`, None for any other."""
        if name not in UNUSED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Later(spec.loader)  # type: ignore[assignment]  # has what the import system needs
        return spec


class _Later:
    """A loader that executes a module when the first name in it is looked up."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        names, begun = module.__dict__, False

        def fill(name: str) -> Any:
            """Act as the module's `__getattr__`. The import system looks for `__` names, which must be missing."""
            nonlocal begun
            missing = name.startswith("__") and name != "__all__"
            if not missing:
                with _filling:  # other threads wait here until the module is executed
                    if not begun:
                        begun = True
                        self._loader.exec_module(module)
                        names.pop("__getattr__", None)
                    missing = name not in names
            if missing:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return names[name]

        names["__getattr__"] = fill


def leave_unused_empty() -> None:
    """Leave the modules of `UNUSED` that are not imported yet empty until they are used."""
    if HollowFinder not in sys.meta_path:
        sys.meta_path.insert(0, HollowFinder)
