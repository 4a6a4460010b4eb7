"""Faults of several Redis servers: a failover by Sentinels, a lost master, slots that move.

The one idea: Odoo is led to them by its URL, before it starts; a real failover and a real move of
slots need no proxy.

What may go wrong: the next fault before the servers have recovered from the last.  So healing
waits until they agree.
"""

import contextlib
import functools

from redis import RedisError

from .faults import every, fault
from .scene import REDIS

ANY = ("l2: ",)
SLOTS_AT_ONCE = 20


def _instead(scene, servers):
    """Odoo uses these servers, not the one behind the proxy."""
    with servers() as scene.servers:
        scene.stage.env["TIERED_CACHE_REDIS_URL"] = scene.servers.url
        yield


sentinel_fault = functools.partial(
    fault,
    "sentinel",
    prepare=functools.partial(_instead, servers=REDIS.SentinelServers),
    quiet=True,
)
cluster_fault = functools.partial(
    fault,
    "cluster",
    prepare=functools.partial(_instead, servers=REDIS.ClusterServers),
    quiet=True,
)


@sentinel_fault(
    "the primary is killed, its replica takes its place, and it comes back as a replica",
    shows=ANY,
)
def sentinel_failover(scene):
    servers = scene.servers
    old = servers.primary()
    old.stop()
    REDIS.wait_until(lambda: servers.primary() is not old, "failed over")
    yield
    old.start()
    REDIS.wait_until(lambda: all(map(servers.is_ready, servers.sentinels)), "a replica again")


@cluster_fault("one of three masters is lost, and comes back", shows=ANY)
def cluster_master_lost(scene):
    """The one with the most keys, so that somebody asks it."""
    servers = scene.servers
    lost = max(servers.servers, key=lambda server: server.call("DBSIZE"))
    lost.stop()
    yield
    lost.start()
    REDIS.wait_until(servers.agree, "it is believed alive")


@cluster_fault("slots with keys move from master to master, all the time")
def cluster_slots_moved(scene):
    servers = scene.servers

    def move():
        source, target = scene.rng.sample(servers.servers, 2)
        slots = {source.call("CLUSTER", "KEYSLOT", key) for key in source.call("KEYS", "tc:*")}
        moved = 0
        for slot in sorted(slots)[:SLOTS_AT_ONCE]:
            # what one node has not heard of yet is refused, and tried again
            with contextlib.suppress(TimeoutError, RedisError):
                servers.begin_to_move(slot, source, target)
                servers.move_keys(slot, source, target)
                servers.end_move(slot, source, target)
                moved += 1
        return moved

    with every(0.05, move):
        yield
    REDIS.wait_until(servers.agree, "all know who has which slot")
