"""The hunt itself: who reads what, in which order, and what is taken away in between.

The one idea: a *group* of models and seats is read at random by two processes that share L2 and
L3, until answers come from the cache; then privileges change in one of the processes (or by SQL)
and the same is read again, at once; then the change is undone and it is read once more.  The
workers compare every answer with plain Odoo's, see ``leaks_child``.

What may go wrong: a worker that ends.  Its log is in the error.
"""

import collections
import contextlib
import random
import time

from bench.children import ChildProcess
from bench.common import ServerFailed

from . import leaks_plants
from .leaks_changes import KINDS, SLOW

MODELS_PER_GROUP = 6
SEATS_PER_MODEL = 4
OTHER_LANGUAGE = 0.25  # share of seats that read the same in two languages
FOREIGN_COMPANY = 0.06  # share of reads that ask for a company which is not the user's
CALLS_PER_MODEL = 3
BATCH = 60
WORKERS = 2
OPTIONS = {
    "TIERED_CACHE_ENABLED": "1",
    "TIERED_CACHE_L1_MIN_COST_MS": "0",
    "TIERED_CACHE_L2_MIN_COST_MS": "0",
    "TIERED_CACHE_L3_MIN_COST_MS": "0",
    "TIERED_CACHE_L3_ENABLED": "1",
    "TIERED_CACHE_METRICS_FLUSH_S": "3600",
    "TIERED_CACHE_GUARD_LOCK_TIMEOUT_MS": "5000",
    # an answer that lives 60 s would be a matter of the clock, and this is none of time
    "TIERED_CACHE_TIME_DEPENDENT_TTL_S": "3600",
    "PYTHONHASHSEED": "0",
}


CHILD = "proof.programs.leaks_child"


def tell(text):
    """Print at once, also into a file."""
    print(text, flush=True)


class Hunt:
    """:param list databases: names; all hold the same world, the later ones diverged
    :param list seats: see ``leaks_world.seats``; None: a few people are made first
    :param int seed: of everything that is chosen
    :param str redis_url: a Redis that all workers and databases share, '' for none
    """

    def __init__(self, databases, seats, seed, *, redis_url="", say=tell):
        self.databases, self.seats = databases, seats
        self.chance = random.Random(seed)
        self.redis_url, self.say = redis_url, say
        self.kinds, self.enough = KINDS, 20
        self.workers = []
        self.models, self.ruled, self.rules, self.readers = [], [], 0, {}
        self.counts = collections.Counter()
        self.hits = collections.Counter()
        self.hits_by_model = collections.Counter()
        self.asked_by_model = collections.Counter()
        self.misses_by_model = collections.defaultdict(collections.Counter)
        self.errors = collections.Counter()
        self.errors_by_model = collections.Counter()
        self.changes = collections.Counter()
        self.refused = collections.Counter()
        self.differences = []
        self.users = set()
        self._calls = {}
        self._answers = {}
        self._deadline = float("inf")

    # -- life ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self):
        """Within it, the workers are up."""
        with contextlib.ExitStack() as stack:
            starting = [self._worker(number) for number in range(WORKERS)]
            self.workers = [stack.enter_context(worker) for worker in starting]
            if self.seats is None:
                self.workers[0].ask("build", self.databases[0], False)
                self.seats = self.workers[0].ask("seats", self.databases[0])
            for database in self.databases:
                for worker in self.workers:
                    found = worker.ask("start", database, [s["uid"] for s in self.seats])
                self.models, self.ruled = found["models"], found["ruled"]
                self.rules, self.readers = found["rules"], found["readers"]
                if found["errors"]:
                    self.say(f"{database}: not guarded: {found['errors']}")
            yield self

    def _worker(self, number):
        env = {
            **OPTIONS,
            "TIERED_CACHE_REDIS_URL": self.redis_url,
            # in one process the auditor looks at every hit, and what it finds it mends; in the
            # other nobody stands between the cache and the comparison
            "TIERED_CACHE_AUDIT_RATE": "1" if number == 0 else "0",
            # L1 forgets soon, so that the shared tiers have to answer as well
            "TIERED_CACHE_L1_MAX_ENTRIES": "400",
        }
        return ChildProcess(self.databases[0], env, module=CHILD)

    def hunt(self, *, reads=None, seconds=None, only=None, size=MODELS_PER_GROUP):
        """Go through all models, those with record rules first, until a limit is reached.

        :param int reads: no group begins after so many reads
        :param float seconds: no group begins later
        :param list only: models to read, by default all
        :param int size: models per group
        """
        started = time.monotonic()
        self._deadline = started + (seconds or float("inf"))
        others = sorted(set(self.models) - set(self.ruled))
        ruled = list(self.ruled)
        self.chance.shuffle(ruled)
        self.chance.shuffle(others)
        queue = list(only or ruled + others)
        groups = [queue[at : at + size] for at in range(0, len(queue), size)]
        for number, group in enumerate(groups):
            if (reads and self.counts["reads"] >= reads) or self._is_late():
                self.counts["groups left out"] = len(groups) - number
                self.counts["models left out"] = sum(map(len, groups[number:]))
                break
            self._group(group)
            if number % 5 == 4:
                self.say(f"group {number + 1} of {len(groups)}: {self.line()}")
            if len(self.differences) >= self.enough:
                break
        self.counts["seconds"] = round(time.monotonic() - started)

    def find_plants(self, names, reads):
        """Plant flaws, one after the other, and look for each.

        :param int reads: give up after so many
        :return list: names of those that were not found
        """
        missed, self.enough = [], 1
        for name in names:
            self.differences, self.counts = [], collections.Counter()
            self.kinds = leaks_plants.HINTS.get(name, KINDS)
            for worker in self.workers:
                worker.ask("plant", name)
            for _again in range(50):
                self.hunt(reads=reads, only=leaks_plants.MODELS, size=2)
                if self.differences or self.counts["reads"] >= reads:
                    break
            for worker in self.workers:
                worker.ask("unplant")
                worker.ask("forget", self.databases[0], ["l1", "l2", "l3"])
            found = "found" if self.differences else "NOT FOUND"
            self.say(f"planted flaw {name}: {found}, {self.line()}")
            missed += [] if self.differences else [name]
        return missed

    def line(self):
        """One line of figures."""
        return (
            f"{self.counts['reads']} reads, {sum(self.hits.values())} hits checked,"
            f" {sum(self.changes.values())} changes, {len(self.differences)} differences"
        )

    # -- one group -------------------------------------------------------------------------

    def _group(self, models):
        reads, seats = [], []
        for model in models:
            some = self._some_seats(model)
            seats += some
            for method, args, kwargs in self._some_calls(model, some):
                for seat in some:
                    for context in self._some_contexts(seat):
                        reads.append([seat["uid"], context, model, method, args, kwargs])
        databases = [self.databases[0]]
        if len(self.databases) > 1:
            databases.append(self.chance.choice(self.databases[1:]))
        for database in databases:
            some = reads if database == self.databases[0] else self._sample(reads, 0.3)
            self._round(database, some, both=True)
            self._round(database, some, empty=True)
            for _change in range(2):
                if not (self.changes and self._is_late()):
                    self._change_and_read(database, models, seats, some)

    def _is_late(self):
        return time.monotonic() > self._deadline

    def _change_and_read(self, database, models, seats, reads):
        for _attempt in range(6):
            kind, seat = self._kind(), self.chance.choice(seats)
            what, undo = self._change(database, kind, models, seat)
            if what is not None:
                break
        else:
            return
        self.changes[kind] += 1
        self.chance.choice(self.workers).ask("restart", database)
        some = self._sample(reads, 0.4, seat["uid"])
        before = dict(self._answers)
        self._round(database, some, both=True, note=f"after {kind} of {seat['login']}: {what}")
        changed = sum(before[key] != value for key, value in self._answers.items() if key in before)
        self.counts["answers that a change changed"] += changed
        self.counts["changes that changed an answer"] += bool(changed)
        self.chance.choice(self.workers).ask("undo", database, undo)
        self.counts["undone"] += 1
        self._round(database, self._sample(some, 0.5), note=f"after {kind} was undone")

    def _change(self, database, kind, models, seat):
        changer = self.chance.choice(self.workers)
        seed = self.chance.random()
        try:
            return changer.ask("change", database, kind, seed, models, seat["uid"])
        except ServerFailed as error:
            if changer.process.poll() is not None:
                raise
            self.refused[f"{kind}: {str(error).strip().splitlines()[-1][:80]}"] += 1
            return None, []

    def _kind(self):
        kind = self.chance.choice(self.kinds)
        if kind in SLOW and self.counts[kind] >= 3:
            return self._kind()
        self.counts[kind] += kind in SLOW
        return kind

    def _round(self, database, reads, *, both=False, empty=False, note=""):
        """Every read, in random order, while both workers read at the same time.

        :param both: each read by both workers, else by one
        :param empty: now and then empty the tiers near by, so that others must answer
        """
        reads = list(reads)
        self.chance.shuffle(reads)
        for at in range(0, len(reads), BATCH):
            if len(self.differences) >= self.enough:
                return
            batch = reads[at : at + BATCH]
            shares = [[], []]
            for read in batch:
                for share in shares if both else [self.chance.choice(shares)]:
                    share.append(read)
            if empty and self.chance.random() < 0.5:
                tiers = self.chance.choice([["l1"], ["l1", "l2"]])
                for worker in self.workers:
                    worker.ask("forget", database, tiers)
            self._read(database, shares, note)

    def _read(self, database, shares, note):
        for worker, share in zip(self.workers, shares, strict=True):
            worker.send("read", database, share)
        for worker, share in zip(self.workers, shares, strict=True):
            for read, answer in zip(share, worker.receive(), strict=True):
                self._count(database, read, answer, note)
        for worker in self.workers:
            worker.ask("flush", database)

    def _count(self, database, read, answer, note):
        uid, context, model, method, args, kwargs = read
        outcome, why, detail, digest, error, wrong, audits = answer
        self.counts["reads"] += 1
        self.counts["audits"] += audits
        self.users.add(uid)
        self.asked_by_model[model] += 1
        if outcome == "hit":
            self.hits[why] += 1
            self.hits_by_model[model] += 1
        else:
            self.misses_by_model[model][f"{why} {detail}".strip()] += 1
        if error:
            self.errors[error] += 1
            self.errors_by_model[model] += 1
        self._answers[database, repr(read)] = digest
        if wrong:
            self.differences.append(
                {
                    "database": database,
                    "uid": uid,
                    "context": context,
                    "call": [model, method, args, kwargs],
                    "answered by": why,
                    "note": note,
                    "wrong": wrong,
                }
            )
            self.say(f"DIFFERENCE {self.differences[-1]}")

    # -- choosing --------------------------------------------------------------------------

    def _some_calls(self, model, seats):
        uid = self.chance.choice([1, 1, self.chance.choice(seats)["uid"]])
        if (model, uid) not in self._calls:
            self._calls[model, uid] = self.workers[0].ask("calls", self.databases[0], model, uid)
        calls = self._calls[model, uid]
        return self.chance.sample(calls, min(CALLS_PER_MODEL, len(calls)))

    def _some_seats(self, model):
        """Mostly such as may read the model at all."""
        readers = [seat for seat in self.seats if seat["uid"] in self.readers.get(model, ())]
        some = self.chance.sample(readers, min(SEATS_PER_MODEL - 1, len(readers)))
        others = [seat for seat in self.seats if seat not in some]
        return some + self.chance.sample(others, 1)

    def _some_contexts(self, seat):
        some = self.chance.sample(seat["contexts"], min(1 + self.chance.randrange(2), 2))
        if self.chance.random() < OTHER_LANGUAGE:
            lang = "fr_FR" if some[0]["lang"] == "en_US" else "en_US"
            some.append({**some[0], "lang": lang})
        if self.chance.random() < FOREIGN_COMPANY and seat["foreign"]:
            some.append(seat["foreign"])
        return some

    def _sample(self, reads, share, uid=None):
        """Some of the reads; more of those of a user."""
        return [
            read
            for read in reads
            if self.chance.random() < (0.9 if uid and read[0] == uid else share)
        ]

    # -- report ----------------------------------------------------------------------------

    def never_hit(self):
        """:return dict: the reasons, by model that was read and never answered by the cache."""
        return {
            model: "always refused"
            if self.errors_by_model[model] == self.asked_by_model[model]
            else dict(self.misses_by_model[model].most_common(3))
            for model in sorted(self.asked_by_model)
            if not self.hits_by_model[model]
        }

    def report(self):
        """Print the figures."""
        say = self.say
        read = [model for model in self.asked_by_model if self.hits_by_model[model]]
        ruled = len(set(self.asked_by_model) & set(self.ruled))
        say(f"databases: {len(self.databases)}, workers: {len(self.workers)} for each")
        say(
            f"models: {len(self.asked_by_model)} read ({ruled}"
            f" of {len(self.ruled)} with record rules), {len(read)} with hits; rules: {self.rules}"
        )
        say(f"users: {len(self.users)}, seconds: {self.counts['seconds']}")
        say(
            f"reads: {self.counts['reads']}, hits checked: {sum(self.hits.values())}"
            f" {dict(self.hits)}, of these audited by the addon itself: {self.counts['audits']}"
        )
        say(f"refusals compared: {dict(self.errors)}")
        say(f"privileges changed: {sum(self.changes.values())} {dict(self.changes)}")
        say(
            f"  of these changed an answer: {self.counts['changes that changed an answer']}"
            f" ({self.counts['answers that a change changed']} answers)"
        )
        say(f"  refused by Odoo: {dict(self.refused)}")
        if self.counts["models left out"]:
            say(f"left out by the limits: {self.counts['models left out']} models")
        for model, reasons in self.never_hit().items():
            say(f"  never hit: {model}: {reasons}")
        say(f"differences: {len(self.differences)}")
