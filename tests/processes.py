"""Processes that tests start: from a server that has the imports and one thread.

A fork of the test's own process copies its locks as they are. After another test has left threads
(W&B, a local server), the copy can wait for one for ever.
"""

import multiprocessing

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.conftest", "tests.distributed.oro_job"])
