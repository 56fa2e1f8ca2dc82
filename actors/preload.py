"""What the template of the workers imports (`rlm.processes.launcher`): they share it, and start in a moment.

None of it may start a thread or open a connection.
"""

import atexit
import encodings.idna  # noqa: F401  # or each worker would load it as it connects
import gc
import os
import shutil

from setproctitle import setproctitle

import actors.worker  # noqa: F401
from rlm.processes.launcher import PLACE_VARIABLE

atexit.register(shutil.rmtree, os.environ.get(PLACE_VARIABLE, ""), ignore_errors=True)
os.setsid()  # a TERM for the supervisor's group is not meant for it
setproctitle("rlm template")
gc.freeze()  # a collection would copy every page
