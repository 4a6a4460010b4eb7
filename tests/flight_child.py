"""Run by ``odoo-bin shell`` for test_flight_processes.py: one of several processes in which many
threads want the same named entry at the same time.

What may go wrong: a process that is not ready when the others begin proves nothing; each says that
it is, and all wait for the same file.
"""

import contextlib
import json
import os
import threading
import time

from odoo import api
from odoo.addons.tiered_cache.services.engine import engine_for
from odoo.modules.registry import Registry
from odoo.sql_db import db_connect

task = json.loads(os.environ['TIERED_CACHE_TEST_TASK'])
registry = Registry(task['database'])
answers = []


def compute(env):
    with open(task['computed'], 'a') as log:  # short lines are appended whole
        log.write(f'{os.getpid()}\n')
    time.sleep(task['compute_s'])
    return env['res.country'].search_count([])


def get(name, **options):
    with contextlib.closing(db_connect(task['database']).cursor()) as cr:
        env = api.Environment(cr, 1, {})
        return env['cache.manager'].get_or_compute(name, compute, **options)


def request(arrived):
    arrived.wait()
    while not os.path.exists(task['go']):
        time.sleep(0.01)
    started = time.monotonic()
    value = get(task['name'], **task['options'])
    answers.append({'value': value, 'took_s': time.monotonic() - started, 'at': time.time()})


def main():
    time_s, task['compute_s'] = task['compute_s'], 0
    engine = engine_for(registry)
    for number in range(3):  # guards, versions, connections to the tiers
        get(f'{task["name"]}:warm:{os.getpid()}:{number}')
        engine.flush()
    task['compute_s'] = time_s
    arrived = threading.Barrier(task['threads'] + 1)
    threads = [threading.Thread(target=request, args=[arrived]) for _ in range(task['threads'])]
    for thread in threads:
        thread.start()
    arrived.wait()
    with open(task['ready'], 'w') as ready:
        ready.write(str(os.getpid()))
    for thread in threads:
        thread.join()
    with open(task['ready'] + '.answers', 'w') as out:
        json.dump(answers, out)


main()
