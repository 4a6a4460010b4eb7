"""Operations of the model-based test, drawn at random, and failures made small.

The one idea: :func:`operation` draws one operation with whatever chooses, hypothesis or a random
generator.  Reads are drawn from a *focus* of few pages and few users: an answer that nobody asks
for again is never hit.

Slot 0 mostly begins a new request for each page, slot 1 mostly writes, and slot 2 reads in a
transaction that stays open, with its old snapshot.
"""

from .model_changes import ORM, REMOVALS, RIGHTS, STATEMENTS
from .model_reads import PAGES, SEATS

BOTH = (False, True)
RELATIONS = (
    *('res_partner', 'res_partner_category', 'res_partner_res_partner_category_rel', 'res_bank'),
    *('res_users', 'res_groups_users_rel', 'ir_rule', 'ir_model_access', 'res_country_state'),
    *('orm_signaling_default', 'res_company', 'ir_config_parameter'),
)
MANY_READS = 150
FEW_READS = 40
"""Weight of reads: of many, most are hits; of few, more happens between them."""


OFTEN = [*PAGES, *('partners', 'counts', 'counts', 'banks', 'shapes')]
"""Pages as often as they are read: more often those that matter more, or cost less."""


def _beside(seat):
    others = [place for place in range(len(SEATS)) if place != seat]
    alike = [place for place in others if _differ_by_one(SEATS[place], SEATS[seat])]
    return [*(alike * 3), *range(len(SEATS))]


def _differ_by_one(seat, other):
    """Whether only the user is another one, or only the language, or only the companies."""
    (who, context), (other_who, other_context) = seat, other
    names = [
        name for name in {*context, *other_context} if context.get(name) != other_context.get(name)
    ]
    return len(names) + (who != other_who) == 1


BESIDE = [_beside(seat) for seat in range(len(SEATS))]
"""For each seat, who reads the same pages: mostly such as differ from it in one thing, since a
second one would keep answers apart."""


class Focus:
    """What is read for a while.

    :param choose: ``choose(sequence)`` returns one of its items
    """

    def __init__(self, choose):
        self.pages = [choose(OFTEN) for _ in range(2)]
        seat = choose(range(len(SEATS)))
        self.seats = [seat, choose(BESIDE[seat])]


RELEVANT = {
    'partner': (
        *('partner_name', 'partner_values', 'partner_archive', 'partner_categories'),
        *('partner_parent', 'partner_company', 'partner_new', 'partner_unlink', 'partner_barcode'),
        *('category_name', 'category_partners', 'state_name', 'rule_domain', 'rule_active'),
        *('group_member', 'person_city'),
    ),
    'categories': ('category_name', 'category_parent', 'category_new', 'category_unlink'),
    'banks': (
        'bank_name',
        'bank_archive',
        'account_new',
        'account_unlink',
        'account_move',
        'access',
    ),
    'columns': ('bank_name', 'bank_archive', 'access'),
    'users': (
        *('group_member', 'group_implies', 'rule_domain', 'rule_active', 'rule_groups'),
        *('user_company', 'user_companies', 'user_lang', 'company_name'),
    ),
    'money and places': ('rate_value', 'rate_new', 'rate_unlink', 'state_name', 'state_new'),
    'named entries': (
        *('partner_name', 'partner_values', 'partner_categories', 'category_name', 'bank_name'),
        *('person_zone', 'person_city', 'user_company', 'user_companies', 'company_name'),
    ),
    'shapes': ('view_arch', 'lang_name', 'parameter', 'bank_name'),
}
"""Changes that a page shows; its name begins with a key, or all do."""


def _relevant(choose, focus):
    page = choose(focus.pages)
    names = next((names for key, names in RELEVANT.items() if page.startswith(key)), None)
    return choose(names or RELEVANT['partner'])


def _write(choose, focus, worker):
    return ['write', worker, _relevant(choose, focus), choose(range(6)), choose(range(8))]


def _read(choose, focus, worker):
    slot = choose((0, 0, 0, 2, 2, 1))
    mode = choose(('new', 'new', 'new', 'go on')) if slot == 0 else 'go on'
    seat, page = choose(focus.seats), choose(focus.pages)
    return [
        'read',
        worker,
        slot,
        seat,
        page,
        mode,
        choose((False, False, True)),
        choose((True, True, False)),
    ]


def _change(names):
    return lambda choose, focus, worker: [
        *('change', worker, choose((1, 1, 1, 0, 2)), choose(names)),
        *(choose(range(6)), choose(range(8))),
    ]


def _overtaken(choose, focus, worker):
    """A reader with an old snapshot, who first asks when its process has learnt what is newer."""
    seat, page = choose(focus.seats), choose(focus.pages)
    again = ['read', worker, 0, seat, page, 'new', False, False]
    return [
        'in_turn',
        ['begin', worker, 2],
        _write(choose, focus, choose((0, worker))),
        *(again, ['settle', worker], again),
        ['read', worker, 2, seat, page, 'go on', False, False],
    ]


def _compacted_unseen(choose, focus, worker):
    """A change that is compacted by another process before this one has seen it."""
    seat, page = choose(focus.seats), choose(focus.pages)
    read = ['read', worker, 0, seat, page, 'new', False, False]
    other = _other(worker)
    write = _write(choose, focus, other)
    return [
        *('in_turn', *_alone(worker), read, ['settle', worker]),
        *(read, write, ['compact', other], read),
    ]


SHOWN = {
    'partner update': 'partners',
    'category link, upsert': 'categories',
    'bank by common table expression': 'banks',
    'rate in a block': 'money and places',
    'state upsert': 'money and places',
}
"""Statements, and the page that shows what they change."""


def _own_statement(choose, focus, worker):
    """A transaction that begins with SQL of its own and then reads what others have read."""
    seat, statement = choose(focus.seats), choose(list(SHOWN))
    page = SHOWN[statement]
    read = ['read', worker, 0, seat, page, 'new', False, False]
    return [
        *('in_turn', *_alone(worker), read, ['settle', worker], read),
        ['begin', worker, 1],
        ['statement', worker, 1, statement, choose(range(6)), choose(range(8))],
        ['read', worker, 1, seat, page, 'go on', False, False],
        ['rollback', worker, 1],
    ]


UNTOLD = (
    ('banks', ('access', 0, 1), ('access', 0, 0)),
    ('partners', ('rule_domain', 0, 1), ('rule_domain', 0, 2)),
    ('partners', ('rule_active', 0, 0), ('rule_active', 0, 1)),
)
"""A page, how it is before, and a change of rights that it shows."""

PLAIN_USERS = [place for place, (who, _context) in enumerate(SEATS) if who in ('user0', 'user1')]
RULED_BY_CITY = SEATS.index(('user1', {'lang': 'en_US', 'allowed_company_ids': ['@company2']}))
RULE_BY_CITY = (
    *(('rule_active', 2, 1), ('rule_domain', 2, 3), ('rule_groups', 2, 4)),
    ('group_member', 1, 1),
)
"""Who gets the rule that asks for the city of the user, and by which changes."""

SUPERUSER_AND_USER = (
    SEATS.index(('user0 sudo', {'lang': 'en_US', 'allowed_company_ids': ['@company2']})),
    SEATS.index(('user0', {'lang': 'en_US', 'allowed_company_ids': ['@company2']})),
)


def _told_to_nobody(choose, _focus, worker):
    """A right is changed by a worker that dies before it tells the others.  A new one knows the
    right; the shared tiers hold what was computed under the old one."""
    other, seat = _other(worker), choose(PLAIN_USERS)
    page, before, change = choose(UNTOLD)
    return [
        *('in_turn', *_alone(worker), *_alone(other), ['write', other, *before]),
        *(_fresh(worker, seat, page), ['settle', worker], ['begin', other, 1]),
        *(['change', other, 1, *change], ['crash_commit', other, 1]),
        _fresh(other, seat, page),
    ]


def _behind_a_rule(choose, _focus, worker):
    """What a record rule reads of the user changes; a new worker looks at what the old one kept."""
    other = _other(worker)
    read = _fresh(worker, RULED_BY_CITY, 'partners')
    before, after = choose(((0, 1), (1, 0), (0, 2), (2, 0)))
    return [
        *('in_turn', *_alone(worker), *_alone(other)),
        *(['write', other, *change] for change in RULE_BY_CITY),
        *(['write', other, 'person_city', 1, before], read),
        *(['write', other, 'person_city', 1, after], read, ['settle', worker], ['restart', other]),
        ['read', other, *read[2:]],
    ]


def _in_memory_before(choose, focus, worker):
    """What is in the memory of the transaction already is read without SQL."""
    seat, other = choose(focus.seats), _other(worker)
    return [
        *('in_turn', *_alone(worker), _fresh(worker, seat, 'columns')),
        ['write', other, 'account_move', choose(range(6)), choose((1, 2, 4, 5))],
        # of a hit, the comparison leaves in memory what it has read
        ['read', worker, 0, seat, 'columns', 'new', True, False],
        ['read', worker, 0, seat, 'banks', 'go on', False, False],
        ['write', other, 'bank_name', choose(range(6)), choose(range(8))],
        _fresh(worker, seat, 'banks'),
    ]


def _inner_hit(choose, focus, worker):
    """An answer that was made of another answer is as old as that."""
    read, other = _fresh(worker, choose(focus.seats), 'banks'), _other(worker)
    return [
        *('in_turn', *_alone(worker), ['write', other, 'account_move', 0, choose((2, 4))]),
        *(read, ['write', other, 'account_move', 0, choose((1, 3, 5))], read),
    ]


def _left_by_superuser(choose, _focus, worker):
    """Code in superuser mode leaves records in memory that the user may not see."""
    superuser, user = SUPERUSER_AND_USER
    return [
        *('in_turn', *_alone(worker)),
        ['write', _other(worker), 'partner_values', 4, 3],
        ['write', _other(worker), 'rule_domain', 0, 0],
        ['write', _other(worker), 'partner_categories', 4, choose((2, 3, 6, 7))],
        # of a hit, the comparison leaves in memory what it has read
        _fresh(worker, superuser, 'members'),
        ['read', worker, 0, superuser, 'members', 'new', True, False],
        ['read', worker, 0, user, 'members', 'go on', False, False],
        _fresh(worker, user, 'members'),
    ]


def _alone(worker):
    """While a transaction of another state is open in the process, nothing is kept there."""
    return [['rollback', worker, slot] for slot in range(3)]


APART = (
    ((1, 9), 'categories', ('category_name', range(3), (1, 3, 5, 7))),
    ((10, 11), 'partner forms', ('partner_barcode', (0, 1, 2), range(8))),
    ((7, 8), 'members', ('partner_categories', (4,), (2, 3, 6, 7))),
)
"""Two seats that differ in one thing (language, current company, superuser mode), a page, and a
change that only one of them shows."""


def _apart(choose, _focus, worker):
    """The same is asked under circumstances that differ in one thing."""
    seats, page, (name, *values) = choose(APART)
    first = choose(range(2))
    return [
        *('in_turn', *_alone(worker)),
        ['write', _other(worker), name, *(choose(some) for some in values)],
        *(_fresh(worker, seats[first], page), _fresh(worker, seats[1 - first], page)),
    ]


def _fresh(worker, seat, page):
    return ['read', worker, 0, seat, page, 'new', False, False]


def _other(worker):
    return 0 if worker else 1


def _named(changes):
    return [change.__name__ for change in changes]


def _in_slot(name, *options):
    """An operation on the slot that mostly writes."""
    return lambda choose, focus, worker: [
        *(name, worker, choose((1, 1, 1, 1, 0, 2))),
        *(choose(values) for values in options),
    ]


def _on_worker(name, *options):
    return lambda choose, focus, worker: [name, worker, *(choose(values) for values in options)]


_SQL = (list(STATEMENTS), range(6), range(8))

KINDS = {
    'read': (0, _read),
    'write': (10, _write),
    'commit': (9, _in_slot('commit', (False, False, True))),
    'ORM': (6, _change(_named(ORM))),
    'rights': (2, _change(_named(RIGHTS))),
    'statement': (2, _in_slot('statement', *_SQL)),
    'sql': (2.5, _on_worker('sql', *_SQL)),
    'settle': (8, _on_worker('settle')),
    'begin': (2, _in_slot('begin', (False, False, True))),
    'begin old': (1, lambda choose, focus, worker: ['begin', worker, 2]),
    'overtaken': (0.7, _overtaken),
    'compacted unseen': (0.3, _compacted_unseen),
    'own statement': (0.5, _own_statement),
    'told to nobody': (0.5, _told_to_nobody),
    'behind a rule': (0.4, _behind_a_rule),
    'in memory before': (0.3, _in_memory_before),
    'inner hit': (0.2, _inner_hit),
    'left by superuser': (0.3, _left_by_superuser),
    'apart': (0.4, _apart),
    'rollback': (2, _in_slot('rollback')),
    'savepoint': (1.5, _in_slot('savepoint')),
    'release savepoint': (1.5, _in_slot('release_savepoint', BOTH)),
    'removal': (0.3, _change(_named(REMOVALS))),
    'compact': (1.5, _on_worker('compact')),
    'tick': (0.3, _on_worker('tick')),
    'guard': (0.7, _on_worker('guard', RELATIONS)),
    'release': (0.4, _on_worker('release', RELATIONS, BOTH)),
    'evict': (2, _on_worker('evict', range(3))),
    'clear': (0.5, _on_worker('clear', ('l1', 'l2', 'l3'))),
    'flush Redis': (0.3, lambda choose, focus, worker: ['flush_redis']),
    'dump Redis': (0.4, lambda choose, focus, worker: ['dump_redis']),
    'restore Redis': (0.8, lambda choose, focus, worker: ['restore_redis']),
    'restart': (0.3, _on_worker('restart')),
    'crash': (0.3, _in_slot('crash_commit')),
    'reload': (0.03, _on_worker('reload')),
}
"""Weight and maker of each kind of operation; reads get theirs from the caller."""


def kinds(reads) -> list[str]:
    """Names of kinds, each as often as its weight says, in hundredths."""
    weights = {name: weight for name, (weight, _make) in KINDS.items()} | {'read': reads}
    return [name for name, weight in weights.items() for _ in range(round(weight * 100))]


def operation(choose, kind, focus, workers):
    """One operation.

    :param choose: ``choose(sequence)`` returns one of its items
    :param str kind: one of KINDS
    :param int workers: how many there are
    """
    return KINDS[kind][1](choose, focus, choose(range(workers)))


def reads_together(choose, focus, workers):
    """A read of each worker, at the same time."""
    return ['together', *(_read(choose, focus, worker) for worker in range(workers))]


def minimise(script, fails, patience=200):
    """A shorter script that still fails.

    :param fails: ``fails(script) -> bool`` replays
    :param int patience: how many replays at most
    """
    size = len(script) // 2
    while size and patience > 0:
        start = 0
        while start < len(script) and patience > 0:
            shorter = script[:start] + script[start + size :]
            patience -= 1
            if shorter and fails(shorter):
                script = shorter
            else:
                start += size
        size //= 2
    return script
