"""Faults of Redis: gone, slow, full, read-only, and full of lies."""

import functools
import os
import shutil
import socket

from bench.common import HOST, Server

from .faults import every, fault

redis_fault = functools.partial(fault, "redis", quiet=True)
FORGED = ("l2: forged",)
ANY = ("l2: ",)
PATIENT = {"redis": {"enable-debug-command": "yes"}}


@redis_fault("killed, and restarted at the end", seconds=5, shows=ANY)
def redis_killed(scene):
    scene.redis.stop()
    yield
    scene.redis.start()


@redis_fault("frozen (SIGSTOP)", seconds=10, shows=ANY)
def redis_frozen(scene):
    with scene.redis.frozen():
        yield


@redis_fault("FLUSHALL every second")
def redis_flushed(scene):
    with every(1, lambda: scene.redis.call("FLUSHALL")):
        yield


@redis_fault("stalls for 200 ms, twice a second (DEBUG SLEEP)", options=PATIENT, shows=ANY)
def redis_stalls(scene):
    with every(0.3, lambda: scene.redis.call("DEBUG", "SLEEP", "0.2")):
        yield


@redis_fault("slow: every answer takes 30 ms, less than the timeout")
def redis_slow(scene):
    scene.redis_proxy.delay_s = 0.03
    yield
    scene.redis_proxy.delay_s = 0


@redis_fault("out of memory, maxmemory-policy noeviction", shows=ANY)
def redis_full(scene):
    scene.redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    scene.redis.call("CONFIG", "SET", "maxmemory", "1mb")
    yield
    scene.redis.call("CONFIG", "SET", "maxmemory", "0")


@redis_fault("read-only: made a replica of a server that is gone", shows=ANY)
def redis_read_only(scene):
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        scene.redis.call("REPLICAOF", HOST, nobody.getsockname()[1])
        yield
        scene.redis.call("REPLICAOF", "NO", "ONE")


@redis_fault("password changed, connections cut", shows=ANY)
def redis_password(scene):
    scene.redis.call("CONFIG", "SET", "requirepass", "other")
    scene.redis_proxy.cut()
    yield
    scene.redis._options["requirepass"] = "other"
    scene.redis.call("CONFIG", "SET", "requirepass", "")
    del scene.redis._options["requirepass"]


@redis_fault("killed, and an old dump restored, every 4 s", seconds=15, shows=ANY)
def redis_old_dump(scene):
    scene.redis.call("SAVE")
    kept = os.path.join(scene.redis.folder, "kept.rdb")
    shutil.copy(os.path.join(scene.redis.folder, "dump.rdb"), kept)

    def restore():
        scene.redis.stop()
        shutil.copy(kept, os.path.join(scene.redis.folder, "dump.rdb"))
        scene.redis.start()

    with every(4, restore):
        yield
    scene.redis.ensure_running()


@redis_fault("random bytes written into every value, all the time", shows=FORGED)
def redis_poisoned(scene):
    def poison():
        keys = scene.redis.call("KEYS", "tc:*")
        for key in keys:
            length = scene.redis.call("STRLEN", key)
            place = scene.rng.randrange(max(1, length))
            scene.redis.call("SETRANGE", key, place, scene.rng.randbytes(3))
        return len(keys)

    with every(0.02, poison):
        yield


@redis_fault("values swapped between keys and users, all the time", shows=FORGED)
def redis_swapped(scene):
    def swap():
        keys = scene.redis.call("KEYS", "tc:*")
        values = [scene.redis.call("GET", key) for key in keys]
        scene.rng.shuffle(values)
        for key, value in zip(keys, values, strict=True):
            if value:
                scene.redis.call("SET", key, value, "PX", 60000)
        return max(0, len(keys) - 1)

    with every(0.02, swap):
        yield


@redis_fault("old authentic values put back, all the time")
def redis_replayed(scene):
    known = {}

    def replay():
        put_back = 0
        for key in scene.redis.call("KEYS", "tc:*"):
            value = scene.redis.call("GET", key)
            if key in known:
                scene.redis.call("SET", key, known[key], "PX", 60000)
                put_back += value != known[key]
            elif value:
                known[key] = value
        return put_back

    with every(0.5, scene.load.touch), every(0.02, replay):
        yield


def _other_database(scene):
    """A copy of the database with an identity of its own, whose server shares our Redis."""
    scene.cluster.sql(f'CREATE DATABASE other TEMPLATE "{scene.stage.database}"')
    scene.cluster.sql(
        "UPDATE ir_config_parameter SET value = gen_random_uuid()"
        " WHERE key IN ('database.uuid', 'database.secret')",
        "other",
    )
    scene.cluster.sql("UPDATE x_account SET x_balance = x_balance + 7", "other")
    yield


@redis_fault(
    "values of another database copied over ours, all the time", _other_database, shows=FORGED
)
def redis_mixed_up(scene):
    uuid = scene.cluster.sql(
        "SELECT value FROM ir_config_parameter WHERE key = 'database.uuid'", scene.stage.database
    )[0][0]
    ours = f"tc:{uuid}:".encode()
    other = scene.stage.on(scene.cluster, "other")
    with Server("other", workers=0, env=other.environment) as server:
        rpc = other.session(server.port)

        def mix_up():
            rpc.call("x_account", "web_search_read", [], {"domain": [], "specification": {}})
            rpc.call("x_account", "search_count", [[]])
            copied = 0
            for key in scene.redis.call("KEYS", "tc:*"):
                if not key.startswith(ours):
                    value = scene.redis.call("GET", key)
                    for mine in scene.redis.call("KEYS", ours + b"*"):
                        if mine.split(b":")[2:5] == key.split(b":")[2:5] and value:
                            scene.redis.call("SET", mine, value, "PX", 60000)
                            copied += 1
            return copied

        with every(0.05, mix_up):
            yield


@redis_fault("black hole: the port accepts and never answers", shows=ANY)
def redis_black_hole(scene):
    with socket.create_server((HOST, 0), backlog=200) as hole:
        scene.redis_proxy.switch(hole.getsockname()[1])
        yield
        scene.redis_proxy.switch(scene.redis.port)


@redis_fault("black hole: a port whose accept queue is full", shows=ANY)
def redis_full_queue(scene):
    with scene.redis_proxy.full():
        yield
