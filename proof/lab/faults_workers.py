"""Faults of Odoo's processes and of their clock.

That a worker is killed adds nothing to a read: what it was answering fails, the others go on.  One
that begins is a process that begins, see ``proof/growth``.  So these are not ``quiet``; nor is
a fork.
"""

import contextlib
import http.client
import os
import time

import psutil

from .faults import NotThere, every, fault
from .forking import forking


@fault("workers", "SIGKILL of one of four workers, once a second", plain=True)
def worker_killed(scene):
    with every(1, scene.kill_worker):
        yield


@fault("workers", "SIGKILL of a worker right after its COMMIT", plain=True)
def worker_killed_after_commit(scene):
    """The proxy holds PostgreSQL's answer to COMMIT back until the worker is dead."""

    def kill_who_committed(answer, port):
        # one in ten, so that something gets done as well
        if b"COMMIT\0" not in answer or scene.rng.random() > 0.1:
            return False
        for worker in scene.workers():
            with contextlib.suppress(psutil.Error):
                if any(one.laddr.port == port for one in worker.net_connections()):
                    worker.kill()
                    scene.killed += 1
                    return True
        return False  # one of the sessions that speak SQL

    before = scene.killed
    scene.database_proxy.inspect = kill_who_committed
    yield
    scene.database_proxy.inspect = None
    if scene.killed == before:
        raise NotThere("no worker was killed after a commit")


@fault("workers", "a process that has used the cache forks, and both go on using it")
def fork_after_use(scene):
    if not scene.addon:
        raise NotThere("plain Odoo has no cache to use")
    with forking(scene) as children:
        yield
        found = children()
    if not found.hits:
        raise NotThere("the cache has answered no child")
    scene.others.append(found)


def _clock(scene):
    """Odoo's processes take the time from a file of ours."""
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
    if not os.path.exists(library):
        raise RuntimeError("libfaketime is not installed: apt-get install faketime")
    scene.clock = os.path.join(scene.redis.folder, "clock")
    _set_clock(scene, "+0")
    scene.env.update(
        LD_PRELOAD=library,
        FAKETIME_TIMESTAMP_FILE=scene.clock,
        FAKETIME_CACHE_DURATION="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        FAKETIME_DISABLE_SHM="1",
    )
    yield


def _set_clock(scene, offset):
    with open(scene.clock, "w") as file:
        file.write(f"{offset}\n")


def _show_clock(scene, offset_s):
    """:raise NotThere: Odoo's processes have another time than they should"""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if abs(scene.odoo_time() - time.time() - offset_s) < 60:
                return
        time.sleep(0.2)
    raise NotThere(f"no process has a clock that is {offset_s} s ahead")


@fault("clock", "an hour back, and an hour forward again", _clock, plain=True, quiet=True)
def clock_back(scene):
    _set_clock(scene, "-3600")
    _show_clock(scene, -3600)
    yield
    _set_clock(scene, "+0")


@fault("clock", "an hour forward, and an hour back again", _clock, plain=True, quiet=True)
def clock_forward(scene):
    _set_clock(scene, "+3600")
    _show_clock(scene, 3600)
    yield
    _set_clock(scene, "+0")
