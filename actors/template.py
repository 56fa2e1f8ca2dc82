"""Preloaded into the forkserver's template: imports what every worker needs, so that a worker starts in milliseconds.

The template leads a session of its own, so that signals to the supervisor's group do not reach it, and blocks TERM and
INT. Its children inherit the block, not the signals: one that comes while a child boots waits until the child listens.
Import it nowhere else.
"""

from __future__ import annotations

import importlib
import os
import signal

import actors.worker

# What starts a worker process loads the program that started the supervisor: nothing of it is used here.
importlib.import_module("rlm.cli")
if os.environ.get("SENTRY_DSN"):  # else each worker would load that library for itself
    importlib.import_module("rlm.telemetry.sentry")

os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, actors.worker.SIGNALS)
