"""Faults of PostgreSQL: crashes, standbys, copies and restores."""

import contextlib
import os
import subprocess
import tempfile
import time

from bench.common import Server

from .faults import NotThere, every, fault
from .load import Load
from .postgres import Cluster
from .proxy import Proxy

DELAY_MS = 400


@fault(
    "postgres",
    "immediate stop, and start (UNLOGGED tables emptied)",
    plain=True,
    seconds=3,
    quiet=True,
)
def postgres_crash(scene):
    scene.cluster.stop("immediate")
    yield
    scene.cluster.start()


@fault("postgres", "pg_terminate_backend on everybody, every 3 s", plain=True, quiet=True)
def backends_terminated(scene):
    everybody = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with every(3, lambda: len(scene.cluster.sql(everybody))):
        yield


def _standby(scene):
    """A hot standby that replays late, for the routes that only read."""
    delay = {"recovery_min_apply_delay": f"'{DELAY_MS}ms'", "max_standby_streaming_delay": "-1"}
    with scene.cluster.standby(delay) as scene.replica, Proxy(scene.replica.port) as proxy:
        scene.env.update(PGHOST_REPLICA="127.0.0.1", PGPORT_REPLICA=str(proxy.port))
        yield


@fault(
    "postgres",
    f"a hot standby {DELAY_MS} ms behind serves what only reads",
    _standby,
    recent=False,
    quiet=True,
)
def standby(scene):
    yield
    answered = scene.replica.sql(
        "SELECT xact_commit > 50 FROM pg_stat_database WHERE datname = 'proof'"
    )
    if answered != [["t"]]:
        raise NotThere("the standby has answered nothing")


@fault(
    "postgres",
    "the primary is lost, its standby promoted",
    _standby,
    recent=False,
    plain=True,
    quiet=True,
)
def standby_promoted(scene):
    # from then on it is the only server: what it acknowledges, everybody must see
    with scene.load.pause(forget=True, recent=True):
        scene.cluster.stop("immediate")
        scene.replica.promote()
        scene.move_to(scene.replica)
    yield


def _clone(scene):
    """``createdb -T``, identity and all: it shares our keys in Redis and goes its own way."""
    scene.cluster.sql(f'CREATE DATABASE clone TEMPLATE "{scene.stage.database}"')
    yield


@fault("postgres", "a clone (createdb -T) shares the Redis and diverges", _clone, quiet=True)
def clone(scene):
    stage = scene.stage.on(scene.cluster, "clone")
    with (
        Server("clone", workers=2, env=stage.environment) as server,
        Load(stage, server.port, seed=scene.seed + 1, readers=2, writers=2) as load,
    ):
        yield
        scene.others.append(load)


@fault("postgres", "restored to an earlier state, with the same Redis", plain=True, quiet=True)
def restored(scene):
    with tempfile.TemporaryDirectory(prefix="tiered-cache-pg-") as folder:
        kept = os.path.join(folder, "data")
        with scene.load.pause():
            scene.cluster.stop()
            scene.cluster.copy_files(kept)
            scene.cluster.start()
        earlier = scene.stack.enter_context(Cluster(files=kept))
    time.sleep(5)  # what is written now will be undone
    with scene.load.pause(forget=True):
        scene.cluster.stop("immediate")
        scene.move_to(earlier)
    yield


def _small_disk(scene):
    """L3's table on a disk of 1 MB."""
    place = os.path.join(scene.cluster.folder, "small")
    os.makedirs(place)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"needs the right to mount a tmpfs: {done.stderr}")
    try:
        scene.cluster.own(place)
        scene.cluster.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        tables = "ALTER TABLE cache_entry SET TABLESPACE small"
        scene.cluster.sql(tables, scene.stage.database)
        yield
    finally:
        scene.cluster.stop("immediate")
        subprocess.run(["umount", "-l", place], check=False)


@fault("postgres", "the disk of L3's table is full", _small_disk, quiet=True, shows=("l3: ",))
def l3_disk_full(scene):
    place = os.path.join(scene.cluster.folder, "small", "filler")
    with contextlib.suppress(OSError), open(place, "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    yield
    os.unlink(place)
