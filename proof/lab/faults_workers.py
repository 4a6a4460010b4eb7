"""Faults of Odoo's processes and of their clock."""

import contextlib
import os
import select
import signal

import psycopg2

from .faults import every, fault


@fault("workers", "SIGKILL of one of four workers, once a second", plain=True)
def worker_killed(scene):
    with every(1, scene.kill_worker):
        yield


@fault("workers", "SIGKILL of a worker right after its COMMIT", plain=True)
def worker_killed_after_commit(scene):
    where = scene.stage.environment
    listener = psycopg2.connect(
        host=where["PGHOST"],
        port=where["PGPORT"],
        user=where["PGUSER"],
        dbname=scene.stage.database,
    )
    listener.autocommit = True
    listener.cursor().execute("LISTEN committed")

    def kill_who_told():
        if select.select([listener], [], [], 0.2)[0]:
            listener.poll()
            while listener.notifies:
                name = listener.notifies.pop(0).payload
                # one in three, so that something gets done as well
                if scene.rng.random() < 0.34:
                    with contextlib.suppress(ValueError, ProcessLookupError):
                        os.kill(int(name.rpartition("-")[2]), signal.SIGKILL)

    scene.load.doomed = True
    with contextlib.closing(listener), every(0, kill_who_told):
        yield
    scene.load.doomed = False


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


@fault("clock", "an hour back, and an hour forward again", _clock, plain=True)
def clock_back(scene):
    _set_clock(scene, "-3600")
    yield
    _set_clock(scene, "+0")


@fault("clock", "an hour forward, and an hour back again", _clock, plain=True)
def clock_forward(scene):
    _set_clock(scene, "+3600")
    yield
    _set_clock(scene, "+0")
