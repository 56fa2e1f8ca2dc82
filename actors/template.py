"""Preloaded into the forkserver's template: imports what every worker needs, so that a worker starts in milliseconds.

The template leads a session of its own, so that signals to the supervisor's group do not reach it, and blocks TERM and
INT. Its children inherit the block: a signal that comes while a child boots waits until the child listens. Import it
nowhere else.
"""

from __future__ import annotations

import importlib
import os
import signal

import actors.worker

# Multiprocessing loads the program that started the supervisor in each worker, which is cheap once it is loaded here.
importlib.import_module("rlm.cli")
if os.environ.get("SENTRY_DSN"):  # else each worker would load the library
    importlib.import_module("rlm.telemetry.sentry")

os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, actors.worker.SIGNALS)
