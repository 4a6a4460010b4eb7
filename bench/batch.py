#!/usr/bin/env python3
"""The batch API against single calls, in one interleaved run.

A real prefork server (2 workers) on a copy of the database of bench/rpc.py: 10,000 products.  One
client; in each round, in random order:

  single cold   50 mixed reads by JSON-RPC, one after the other, that nobody has made before
  batch cold    50 others of the same kind as one batch
  single warm   50 mixed reads by JSON-RPC that everybody makes, answered from the cache
  batch warm    the same 50 as one batch
  304           the same batch with the ETag of its answer
  304 get       a page of /cache/1/products with its ETag
  empty         the emptiest request with an API key: res.users.context_get by /json/2

The mix is what a shop asks: 20 reads of one product (popular ones more often), 10 searches of
products by id, 8 counts, 6 searches by name, 6 groups.  A read that "nobody has made before" has a
context key of its own.  Medians of the rounds, and of their ratios.
"""

import argparse
import http.client
import json
import os
import random
import sys
import time
from pathlib import Path

if not __package__:  # started as a file: make the package known, as PEP 366 has it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "bench"

from . import databases  # noqa: E402
from .common import CALL_TIMEOUT_S, HOST, Rpc, Server, median  # noqa: E402

DATABASE = "tiered_cache_bench_batch"
RESULTS = Path(__file__).resolve().parent / "results" / "batch.json"
FIELDS = ["name", "default_code", "list_price", "categ_id"]


def make_key(env):
    """An API key of the administrator, and what the mix needs; called in Odoo."""
    keys = env["res.users.apikeys"].with_user(env.ref("base.user_admin")).sudo()
    key = keys._generate(None, "bench", None)
    products = env["product.product"].search([], limit=2000, order="id").ids
    categories = env["product.category"].search([], limit=8).ids
    env.cr.commit()
    return {"key": key, "products": products, "categories": categories}


class Mix:
    """Reads of a shop.

    :param dict known: of :func:`make_key`
    """

    def __init__(self, known):
        self.known = known

    def calls(self, seed, context):
        """50 reads, as parts of a batch."""
        chance = random.Random(seed)  # noqa: S311 reproducible, not secret
        ids = self.known["products"]

        def product():
            return ids[min(int(chance.paretovariate(0.6)), len(ids)) - 1]

        calls = [("read", [product()], {"fields": FIELDS}) for _ in range(20)]
        calls += [
            ("search_read", None, {"domain": [["id", "in", [product(), product()]]],
                                   "fields": FIELDS, "order": "id"})
            for _ in range(10)
        ]  # fmt: skip
        calls += [
            ("search_count", None, {"domain": [["categ_id", "=", chance.choice(
                self.known["categories"])]]})
            for _ in range(8)
        ]  # fmt: skip
        words = ("desk", "chair", "lamp", "cabinet")
        calls += [
            ("name_search", None, {"name": chance.choice(words), "limit": 8}) for _ in range(6)
        ]
        calls += [
            ("formatted_read_group", None, {
                "domain": [["sale_ok", "=", chance.random() < 0.5]],
                "groupby": ["categ_id"], "aggregates": ["__count"]})
            for _ in range(6)
        ]  # fmt: skip
        chance.shuffle(calls)
        return [
            {
                "model": "product.product",
                "method": method,
                **({"ids": found} if found else {}),
                "arguments": arguments,
                "context": context,
            }
            for method, found, arguments in calls
        ]


class Client:
    """One program outside, with an API key and with a session."""

    def __init__(self, port, key):
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.rpc = Rpc(port, DATABASE).login()

    def ask(self, method, path, body=None, etag=None):
        """:return tuple: (status, headers, body, milliseconds)."""
        headers = {**self.headers, **({"If-None-Match": etag} if etag else {})}
        data = json.dumps(body).encode() if body is not None else None
        connection = http.client.HTTPConnection(HOST, self.port, timeout=CALL_TIMEOUT_S)
        started = time.perf_counter()
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        content = answer.read()
        took_ms = (time.perf_counter() - started) * 1000
        connection.close()
        return answer.status, answer.headers, content, took_ms

    def batch(self, calls, etag=None):
        """:return tuple: as :meth:`ask`."""
        return self.ask("POST", "/cache/1/batch", {"calls": calls}, etag)

    def single(self, calls):
        """:return float: milliseconds of all of them by JSON-RPC."""
        total_ms = 0.0
        for call in calls:
            args = [call["ids"]] if "ids" in call else []
            encoded = self.rpc.encode(
                call["model"], call["method"], args, call["arguments"], call["context"]
            )
            total_ms += self.rpc.send(encoded)[1]
        return total_ms


def measure(client, mix, rounds):
    """:return dict: lists of milliseconds by scenario."""
    everybody = mix.calls(1, {})
    page = "/cache/1/products?size=20"
    state = {}

    def settle():
        """Both answers kept by both workers."""
        for _attempt in range(30):
            _status, headers, _content, _ms = client.batch(everybody)
            state["batch"] = headers.get("ETag")
            _status, headers, _content, _ms = client.ask("GET", page)
            state["page"] = headers.get("ETag")
            client.single(everybody)
            time.sleep(0.2)

    settle()
    if not (state["batch"] and state["page"]):
        raise SystemExit("the answers are never kept")
    number = iter(range(10**6))

    def cold(ask):
        calls = mix.calls(next(number) + 1000, {"bench": random.random()})
        return ask(calls)

    def expect(status, answer):
        if answer[0] != status:
            raise SystemExit(f"{answer[0]} instead of {status}: {answer[2][:300]}")
        return answer[3]

    scenarios = {
        "single cold": lambda: cold(client.single),
        "batch cold": lambda: cold(lambda calls: expect(200, client.batch(calls))),
        "single warm": lambda: client.single(everybody),
        "batch warm": lambda: expect(200, client.batch(everybody)),
        "304": lambda: expect(304, client.batch(everybody, state["batch"])),
        "304 get": lambda: expect(304, client.ask("GET", page, None, state["page"])),
        "empty": lambda: expect(200, client.ask("POST", "/json/2/res.users/context_get", {})),
    }
    results = {name: [] for name in scenarios}
    for _round in range(rounds):
        for name in random.sample(list(scenarios), len(scenarios)):
            results[name].append(scenarios[name]())
    return results


def report(results):
    """:return dict: medians, and medians of the ratios of single rounds."""
    ratios = {
        "cold: single / batch (>= 5)": ("single cold", "batch cold"),
        "warm: single / batch": ("single warm", "batch warm"),
        "cold single / warm batch (>= 20)": ("single cold", "batch warm"),
        "304 / empty (<= 1.3)": ("304", "empty"),
        "304 get / empty (<= 1.3)": ("304 get", "empty"),
    }
    return {
        "median_ms": {name: round(median(values), 2) for name, values in results.items()},
        "ratios": {
            name: round(median(a / b for a, b in zip(results[x], results[y], strict=True)), 2)
            for name, (x, y) in ratios.items()
        },
    }


def main():
    """Measure, write and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="of each scenario (30)")
    parser.add_argument("--keep", action="store_true", help="keep the database, or use a kept one")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"JSON file ({RESULTS})")
    options = parser.parse_args()
    os.environ.setdefault("ODOO_RC", os.devnull)
    if not (options.keep and DATABASE in databases.in_odoo("dbadmin", "databases")):
        databases.copy(databases.PLAIN, DATABASE)
        databases.install(DATABASE, "tiered_cache")
        databases.in_odoo("dbadmin", "analyze", database=DATABASE)
    try:
        known = databases.in_odoo("batch", "make_key", database=DATABASE)
        with Server(DATABASE) as server:
            results = measure(Client(server.port, known["key"]), Mix(known), options.rounds)
    finally:
        if not options.keep:
            databases.drop(DATABASE)
    found = report(results)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
