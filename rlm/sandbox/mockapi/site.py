"""One endpoint as it is served: its windows, its faults, its processing times; and which path leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from rlm.core.errors import ConfigurationError
from rlm.sandbox.mockapi.faults import Answer, Faults, NoAnswer, outcome
from rlm.sandbox.mockapi.limiter import StrictWindow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from rlm.core.endpoint import Endpoint, EventType

#: The paths of the mock's own controls.
CONTROL = "/_mock"


class Site:
    """One endpoint as it is served. `cut` counts the connections reset while it was down.

    A call takes room in its own window and in that of its budget, `shared` with the others that hang on it, or in
    neither.
    """

    def __init__(self, endpoint: Endpoint, shared: StrictWindow | None) -> None:
        self.name = endpoint.name
        self.url = endpoint.url
        self.limit = endpoint.limit
        self.budget = endpoint.budget
        self.faults = Faults()
        self.cut = 0
        #: Seconds a call takes, by event type; a call of no known type takes as long as the first.
        self.processing: dict[str, float] = {}
        self._windows = [StrictWindow(endpoint.limit), *([shared] if shared else [])]
        self._faults_set_at = 0.0

    def set_faults(self, faults: Faults, at: float) -> None:
        """Put `faults` in place of those there were; their outages count from `at`."""
        self._faults_set_at = at
        self.faults = faults

    def receive(self, event_type: object, at: float, random: Random) -> tuple[bool, Answer | NoAnswer]:
        """Take the call that arrived `at`: whether the limits admit it, and what it gets."""
        wait = max(window.wait_seconds(at) for window in self._windows)
        if wait > 0:
            return False, Answer(429, retry_after_seconds=wait)
        for window in self._windows:
            window.admit(at)
        seconds = self.processing.get(str(event_type), next(iter(self.processing.values())))
        return True, outcome(self.faults, at - self._faults_set_at, seconds, random)


def sites_by_path(types: Iterable[EventType]) -> dict[str, Site]:
    """Build the site of each endpoint of `types`, by the path of its URL; host and port do not matter.

    Raises:
        ConfigurationError: two endpoints have one path, or one has a path of the mock's own.
    """
    sites: dict[str, Site] = {}
    shared: dict[str, StrictWindow] = {}
    for event_type in types:
        for endpoint in event_type.endpoints:
            path = unquote(urlsplit(endpoint.url).path) or "/"
            budget = endpoint.budget
            window = shared.setdefault(budget.name, StrictWindow(budget.limit)) if budget else None
            site = sites.setdefault(path, Site(endpoint, window))
            _check_path(path, site, endpoint)
            site.processing[event_type.name] = event_type.processing_seconds
    return sites


def _check_path(path: str, site: Site, endpoint: Endpoint) -> None:
    if site.name != endpoint.name:
        raise ConfigurationError(
            f"endpoints {site.name!r} and {endpoint.name!r} have the same path {path!r}, by which the mock API"
            f" tells them apart; give one of {site.url} and {endpoint.url} another path"
        )
    if path == CONTROL or path.startswith(f"{CONTROL}/"):
        raise ConfigurationError(
            f"endpoint {endpoint.name!r} has the path {path!r}, but {CONTROL} is the mock API's own;"
            f" give {endpoint.url} another path"
        )
