"""The checker of list-append histories finds every planted anomaly, and none in clean histories."""

import itertools
import random
from collections import defaultdict
from unittest.mock import patch

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..proof.lab import cycles, list_append, simulator

# Times of transactions that run at the same time, and of others that follow.
FIRST, SECOND, THIRD = (0, 1), (2, 3), (4, 5)
TOGETHER = (0, 9)


def append(key, value):
    return ['append', key, value]


def read(key, *values):
    return ['read', key, list(values)]


def transaction(*ops, session=None, time=TOGETHER, outcome='ok'):
    """Alone in its session unless one is given."""
    session = object() if session is None else session
    times = {'start': time[0], 'end': time[1]}
    return {'session': session, **times, 'outcome': outcome, 'ops': list(ops)}


def names(history, **options):
    return sorted({anomaly.name for anomaly in list_append.check(history, **options)})


@tagged('post_install', '-at_install')
class TestListAppendReads(BaseCase):
    """Anomalies that a read shows without any order of time."""

    def assertFound(self, name, *history):
        self.assertIn(name, names(list(history)))

    def test_garbage_read(self):
        self.assertFound('garbage read', transaction(append('x', 1)), transaction(read('x', 2)))

    def test_a_value_of_another_type_is_garbage(self):
        self.assertFound('garbage read', transaction(append('x', 1)), transaction(read('x', 1.0)))

    def test_no_list_is_garbage(self):
        self.assertFound('garbage read', transaction(['read', 'x', False]))

    def test_duplicate(self):
        self.assertFound('duplicate', transaction(append('x', 1)), transaction(read('x', 1, 1)))

    def test_reads_that_differ_within_a_transaction(self):
        self.assertFound(
            'internal inconsistency',
            transaction(append('x', 1)),
            transaction(read('x'), read('x', 1)),
        )

    def test_own_append_not_read(self):
        self.assertFound('internal inconsistency', transaction(append('x', 1), read('x')))

    def test_another_append_in_the_place_of_the_own(self):
        self.assertFound(
            'internal inconsistency',
            transaction(append('x', 1), read('x', 2)),
            transaction(append('x', 2)),
        )

    def test_own_append_read_before_it_was_made(self):
        self.assertFound('internal inconsistency', transaction(read('x', 1), append('x', 1)))

    def test_incompatible_orders(self):
        appends = transaction(append('x', 1)), transaction(append('x', 2))
        reads = transaction(read('x', 1, 2)), transaction(read('x', 2))
        self.assertFound('incompatible orders', *appends, *reads)

    def test_appends_of_a_transaction_in_another_order(self):
        self.assertFound(
            'incompatible orders',
            transaction(append('x', 1), append('x', 2)),
            transaction(read('x', 2, 1)),
        )

    def test_appends_of_a_transaction_without_the_first(self):
        self.assertFound(
            'incompatible orders',
            transaction(append('x', 1), append('x', 2)),
            transaction(read('x', 2)),
        )

    def test_aborted_read(self):
        aborted = transaction(append('x', 1), outcome='failed')
        self.assertFound('G1a aborted read', aborted, transaction(read('x', 1)))

    def test_aborted_read_that_fits_no_order(self):
        self.assertFound(
            'G1a aborted read',
            transaction(append('x', 1), outcome='failed'),
            transaction(append('x', 2), append('x', 3)),
            transaction(read('x', 1)),
            transaction(read('x', 2, 3)),
        )

    def test_intermediate_read(self):
        self.assertFound(
            'G1b intermediate read',
            transaction(append('x', 1), append('x', 2)),
            transaction(read('x', 1)),
        )

    def test_dirty_update(self):
        self.assertFound(
            'dirty update',
            transaction(append('x', 1), outcome='failed'),
            transaction(append('x', 2)),
            transaction(read('x', 1, 2)),
        )

    def test_lost_update(self):
        self.assertFound(
            'lost update',
            transaction(read('x'), append('x', 1)),
            transaction(read('x'), append('x', 2)),
            transaction(read('x', 1)),
        )


@tagged('post_install', '-at_install')
class TestListAppendCycles(BaseCase):
    """All transactions run at the same time, unless the point is the order of time."""

    def assertNames(self, expected, *history, **options):
        self.assertEqual(names(list(history), **options), expected)

    def test_g0(self):
        self.assertNames(
            ['G0'],
            transaction(append('x', 1), append('y', 1)),
            transaction(append('x', 2), append('y', 2)),
            transaction(read('x', 1, 2), read('y', 2, 1)),
        )

    def test_g1c(self):
        self.assertNames(
            ['G1c'],
            transaction(append('x', 1), read('y', 1)),
            transaction(append('y', 1), read('x', 1)),
        )

    def test_g_single_is_read_skew(self):
        self.assertNames(
            ['G-single'],
            transaction(append('x', 1), append('y', 1)),
            transaction(read('x', 1), read('y')),
            transaction(read('y', 1)),
        )

    def test_g_nonadjacent_is_long_fork(self):
        self.assertNames(
            ['G-nonadjacent'],
            transaction(append('x', 1)),
            transaction(append('y', 1)),
            transaction(read('x', 1), read('y')),
            transaction(read('x'), read('y', 1)),
        )

    def test_write_skew_is_allowed(self):
        self.assertNames(
            [],
            transaction(read('x'), read('y'), append('x', 1)),
            transaction(read('x'), read('y'), append('y', 1)),
            transaction(read('x', 1), read('y', 1)),
        )

    def test_write_skew_that_nobody_reads_is_allowed(self):
        self.assertNames(
            [],
            transaction(read('x'), read('y'), append('x', 1)),
            transaction(read('x'), read('y'), append('y', 1)),
        )

    def test_the_read_only_anomaly_of_fekete_is_allowed(self):
        self.assertNames(
            [],
            transaction(read('x'), read('y'), append('x', 1)),
            transaction(append('y', 1)),
            transaction(read('x'), read('y', 1)),
            transaction(read('x', 1), read('y', 1)),
        )

    def test_stale_read(self):
        history = (
            transaction(append('x', 1), time=FIRST),
            transaction(read('x'), time=SECOND),
            transaction(read('x', 1), time=THIRD),
        )
        self.assertNames(['G-single-realtime', 'stale read'], *history)
        self.assertNames([], *history, realtime=False)

    def test_an_append_that_is_never_read(self):
        self.assertNames(
            ['G-single-realtime', 'stale read'],
            transaction(append('x', 1), time=FIRST),
            transaction(read('x'), time=SECOND),
        )

    def test_a_stale_read_some_beginnings_and_ends_after_the_append(self):
        self.assertNames(
            ['G-single-realtime', 'stale read'],
            transaction(append('x', 1), time=(0, 1)),
            transaction(time=(2, 9)),
            transaction(time=(0, 3)),
            transaction(read('x'), time=(4, 5)),
        )

    def test_a_cycle_is_named_without_an_order_that_it_does_not_need(self):
        self.assertNames(
            ['G-single', 'stale read'],
            transaction(append('x', 1), append('y', 1), time=FIRST),
            transaction(append('x', 2), time=SECOND),
            transaction(read('x', 1, 2), read('y'), time=THIRD),
        )

    def test_an_append_lost_under_a_later_one(self):
        self.assertNames(
            ['G-single-realtime', 'G0-realtime'],
            transaction(append('x', 1), time=FIRST),
            transaction(append('x', 2), time=SECOND),
            transaction(read('x', 2)),
        )

    def test_a_session_that_goes_back_in_time(self):
        history = (
            transaction(append('x', 1)),
            transaction(read('x', 1), time=FIRST, session=1),
            transaction(read('x'), time=SECOND, session=1),
        )
        self.assertNames(['G-single-session', 'non-monotonic read'], *history)
        self.assertNames(['G-single-session', 'non-monotonic read'], *history, realtime=False)
        self.assertNames([], *history, realtime=False, per_session=False)

    def test_a_session_that_does_not_see_its_own_append(self):
        history = (
            transaction(append('x', 1), time=FIRST, session=1),
            transaction(read('x'), time=SECOND, session=1),
        )
        self.assertNames(['G-single-session'], *history, realtime=False)

    def test_a_session_that_appends_again_without_seeing_the_first(self):
        history = (
            transaction(append('x', 1), time=FIRST, session=1),
            transaction(read('x'), append('x', 2), time=SECOND, session=1),
        )
        self.assertNames(['G-single-session'], *history, realtime=False)

    def test_a_read_of_what_comes_later(self):
        self.assertNames(
            ['G1c-realtime'],
            transaction(read('x', 1), time=FIRST),
            transaction(append('x', 1), time=SECOND),
        )

    def test_writes_against_the_order_of_time(self):
        self.assertNames(
            ['G0-realtime'],
            transaction(append('x', 1), time=FIRST),
            transaction(append('x', 2), time=SECOND),
            transaction(read('x', 2, 1), time=THIRD),
        )

    def test_what_ends_as_another_begins_is_not_before_it(self):
        self.assertNames(
            [], transaction(append('x', 1), time=(0, 1)), transaction(read('x'), time=(1, 2))
        )

    def test_an_unknown_transaction_may_commit_late_or_never(self):
        unknown = transaction(append('x', 1), time=FIRST, outcome='unknown', session=1)
        late = transaction(read('x'), time=SECOND, session=1), transaction(read('x', 1), time=THIRD)
        self.assertNames([], unknown, *late)
        self.assertNames([], unknown, late[0])

    def test_an_unknown_transaction_commits_as_a_whole(self):
        self.assertNames(
            ['G-single'],
            transaction(append('x', 1), append('y', 1), outcome='unknown'),
            transaction(read('x', 1), read('y')),
        )

    def test_a_search_cut_short_still_finds_a_cycle(self):
        history = [
            transaction(append('x', 1)),
            transaction(append('y', 1)),
            transaction(read('x', 1), read('y')),
            transaction(read('x'), read('y', 1)),
        ]
        with patch.object(cycles, 'SEARCH_STEPS', 0):
            self.assertEqual(names(history), ['G-nonadjacent'])

    def test_an_explanation_names_the_cycle_and_why(self):
        history = [
            transaction(append('x', 1), append('y', 1), session=1),
            transaction(read('x', 1), read('y'), session=2),
        ]
        (anomaly,) = list_append.check(history)
        self.assertEqual(anomaly.transactions, (0, 1))
        self.assertEqual(
            str(anomaly).splitlines(),
            [
                'G-single: T0 -wr-> T1 -rw-> T0',
                "  T0 (session 1, ok): append 1 to 'x', append 1 to 'y'",
                "  T1 (session 2, ok): read 'x': [1], read 'y': []",
                "  T0 -wr-> T1: T1 read what T0 appended to 'x'",
                "  T1 -rw-> T0: T1 read 'y' without what T0 appended",
            ],
        )


@tagged('post_install', '-at_install')
class TestListAppendFormat(BaseCase):
    """A history that nothing can be concluded from is refused, not found clean."""

    def assertRefused(self, *history):
        with self.assertRaises(ValueError):
            list_append.check(list(history))

    def test_a_value_appended_twice(self):
        self.assertRefused(transaction(append('x', 1)), transaction(append('x', 1)))

    def test_transactions_of_a_session_that_overlap(self):
        overlapping = [transaction(session=1, time=(0, 2)), transaction(session=1, time=(1, 3))]
        self.assertRefused(*overlapping)

    def test_an_end_before_the_start(self):
        self.assertRefused(transaction(time=(1, 0)))

    def test_words_that_the_format_does_not_have(self):
        self.assertRefused(transaction(outcome='maybe'))
        self.assertRefused(transaction(['write', 'x', 1]))


@tagged('post_install', '-at_install')
class TestListAppendSimulated(BaseCase):
    """Histories of the simulator, as they are and with one read corrupted."""

    def test_serial_histories_are_clean(self):
        for seed in range(3):
            history = simulator.history(seed, transactions=300, sessions=1, unknown=0)
            self.assertEqual(list_append.check(history), [])

    def test_concurrent_histories_are_clean(self):
        for seed in range(5):
            history = simulator.history(seed)
            outcomes = {tx['outcome'] for tx in history}
            self.assertEqual(outcomes, {'ok', 'failed', 'unknown'})
            self.assertEqual(list_append.check(history), [])

    def test_every_corrupt_read_is_found(self):
        for corrupt in (stale_by_one, swapped, dropped, aborted):
            for seed in range(3):
                history, chance = simulator.history(seed), random.Random(seed)
                self.assertGreaterEqual(len(history), 1000)
                candidates = list(corrupt(history))
                self.assertGreater(len(candidates), 10)
                for op, values in chance.sample(candidates, 2):
                    before, op[2] = op[2], values
                    self.assertTrue(list_append.check(history), f'{corrupt} {seed} {op}')
                    op[2] = before


def reads_alone(history):
    """Reads of transactions that read a key once and do not append to it."""
    for tx in history:
        times = [key for _kind, key, _value in tx['ops']]
        for op in tx['ops']:
            if op[0] == 'read' and op[2] and times.count(op[1]) == 1 and tx['outcome'] == 'ok':
                yield tx, op


def stale_by_one(history):
    """Where the last element was acknowledged before; else the older list is a right answer too."""
    end = {
        (op[1], op[2]): tx['end'] if tx['outcome'] == 'ok' else float('inf')
        for tx in history
        for op in tx['ops']
        if op[0] == 'append'
    }
    for tx, op in reads_alone(history):
        if end[op[1], op[2][-1]] < tx['start']:
            yield op, op[2][:-1]


def swapped(history):
    for _tx, op in reads_alone(history):
        values = op[2]
        if len(values) > 1:
            yield op, [*values[:-2], values[-1], values[-2]]


def dropped(history):
    """Any but the last, which would be the same as stale."""
    for _tx, op in reads_alone(history):
        middle = len(op[2]) // 2
        if middle < len(op[2]) - 1:
            yield op, op[2][:middle] + op[2][middle + 1 :]


def aborted(history):
    values = defaultdict(list)
    for tx in history:
        for kind, key, value in tx['ops']:
            if kind == 'append' and tx['outcome'] == 'failed':
                values[key].append(value)
    for _tx, op in reads_alone(history):
        for value in values[op[1]]:
            yield op, [*op[2], value]


@tagged('post_install', '-at_install')
class TestListAppendOracle(BaseCase):
    """Small random histories, most of them wrong, against trying out every order of events."""

    def test_the_verdict_equals_that_of_brute_force(self):
        verdicts = defaultdict(int)
        for seed in range(150):
            history = random_history(random.Random(seed))
            for realtime, per_session in ((True, True), (False, True), (False, False)):
                possible = is_possible(history, realtime, per_session)
                found = names(history, realtime=realtime, per_session=per_session)
                self.assertEqual(possible, not found, (seed, realtime, per_session, found))
                verdicts[possible] += 1
        self.assertGreater(min(verdicts[True], verdicts[False]), 100)


def random_history(chance):
    """Two to four transactions that read beginnings of one order per key, then a read of all."""
    value, history, keys = itertools.count(1), [], 'xy'[: chance.randint(1, 2)]
    for _ in range(chance.randint(2, 4)):
        kinds = chance.choices(['append', 'read'], k=chance.randint(1, 3))
        ops = [[kind, chance.choice(keys), next(value)] for kind in kinds]
        start = chance.randint(0, 8)
        outcome = chance.choices(['ok', 'failed', 'unknown'], [8, 1, 1])[0]
        time = start, start + chance.randint(1, 5)
        history.append(transaction(*ops, time=time, outcome=outcome))
    orders = {key: random_order(chance, history, key) for key in keys}
    for tx in history:
        fill_reads(chance, tx, orders)
    history.append(transaction(*(read(key, *orders[key]) for key in keys), time=(20, 21)))
    ends = {}
    for tx in sorted(history, key=lambda tx: tx['start']):
        free = [session for session, end in ends.items() if end <= tx['start']]
        tx['session'] = chance.choice([*free, len(ends)])
        ends[tx['session']] = tx['end']
    return history


def random_order(chance, history, key):
    members = [tx for tx in history if tx['outcome'] == 'ok' or chance.random() < 0.2]
    members.sort(key=lambda tx: tx['end'] + chance.random() * 3)
    appends = [op for tx in members for op in tx['ops'] if op[:2] == ['append', key]]
    return [value for _kind, _key, value in appends]


def fill_reads(chance, tx, orders):
    own, base = defaultdict(list), {}
    for op in tx['ops']:
        kind, key, value = op
        order = orders[key]
        if kind == 'append':
            own[key].append(value)
        elif tx['outcome'] == 'unknown':
            op[2] = None
        else:
            first = [v for k, name, v in tx['ops'] if k == 'append' and name == key and v in order]
            length = order.index(first[0]) if first else chance.randint(0, len(order))
            op[2] = base.setdefault(key, order[:length]) + own[key]


def is_possible(history, realtime, per_session):
    """Tries every order in which the transactions could take their snapshots and commit."""
    history = [tx for tx in history if tx['outcome'] != 'failed']
    count = range(len(history))

    def precedes(a, b):
        if a is b or a['outcome'] != 'ok' or a['start'] > b['start']:
            return False
        same_session = a['session'] == b['session'] and a['end'] <= b['start']
        return realtime and a['end'] < b['start'] or per_session and same_session

    earlier = [{j for j in count if precedes(history[j], history[i])} for i in count]

    def search(committed, snapshots, state):
        if all(i in committed for i in count if history[i]['outcome'] == 'ok'):
            return True
        for i in set(count) - committed:
            if i in snapshots:
                after = committed_state(history[i], snapshots[i], state)
                if after and search(committed | {i}, {**snapshots, i: None}, after):
                    return True
            elif (
                earlier[i] <= committed
                and reads_fit(history[i], state)
                and search(committed, {**snapshots, i: state}, state)
            ):
                return True
        return False

    return search(frozenset(), {}, {'x': [], 'y': []})


def reads_fit(tx, state):
    own = defaultdict(list)
    for kind, key, value in tx['ops']:
        if kind == 'append':
            own[key].append(value)
        elif value is not None and value != state[key] + own[key]:
            return False
    return True


def committed_state(tx, snapshot, state):
    """The lists after the commit, or None if somebody else has written one of them meanwhile."""
    after = dict(state)
    for kind, key, value in tx['ops']:
        if kind == 'append':
            if state[key] != snapshot[key]:
                return None
            after[key] = [*after[key], value]
    return after
