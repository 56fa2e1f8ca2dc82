"""RLM, the Rate Limit Manager: every event that can be sent in its window is, no limit is exceeded, nothing lost."""

from __future__ import annotations

from rlm.core.hollow import leave_unused_empty

__version__ = "0.1.0"

# By these numbers versions that share one Redis know each other. A
# version before them counts as 0. A new field that may be missing, and that whoever does not know it may pass over,
# changes none of them.

#: What this version writes to Redis. It grows with anything that the version before would take for damage.
SCHEMA = 3
#: The schema that a scheduler must have in order to conduct after this version has. It grows with anything by which one
#: of the version before would do wrong: a new state of a run, another meaning of a field.
LEAST_TO_CONDUCT = 0
#: What a released call says to a worker. It grows with anything that a worker of the version before would misread: it
#: is a part of the revision, so that such a worker takes none.
RELEASES = 0

leave_unused_empty()  # first, before any module of RLM imports a library
