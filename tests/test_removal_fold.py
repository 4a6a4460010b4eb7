"""Very many removals become one, which meets all that they have met, and not everything."""

# "read" is what these tests do, not an override of a model's method
# pylint: disable=method-required-super

from unittest.mock import patch

from odoo.addons.tiered_cache.services import journal
from odoo.tests import tagged

from .common import CacheCase
from .test_removal import KINDS, NAME, RemovalCase

CALL = 'v1:orm:tc.bank:search_read:0f'

ENTRIES = {
    'named': {'key': f'{NAME}@01', 'tags': ()},
    'shared': {'key': f'{NAME}@02', 'tags': (), 'uid': 0},
    'tagged': {'key': f'{NAME}@03', 'uid': 0},
    'call': {'key': CALL, 'tags': ()},
    'tagged call': {'key': f'{CALL}0'},
}
NAMED = {'named', 'shared', 'tagged'}
CALLS = {'call', 'tagged call'}
TAGGED = {'tagged', 'tagged call'}
OF_USERS = {'named', 'call', 'tagged call'}


@tagged('post_install', '-at_install')
class TestFolds(RemovalCase):
    def fold(self, names, limit=3):
        """Note removals, and compact."""
        with self.engine.cursor() as cr:
            journal.note(cr, names)
        with (
            patch.object(journal, 'MAX_REMOVALS', limit),
            patch.object(journal, 'MAX_NAMED', limit),
        ):
            self.compact()

    def keep_entries(self, *names):
        """In both workers, so that no test depends on how fast L3 is."""
        for name in names or ENTRIES:
            for engine in (self.engine, self.other):
                with self.request() as env:
                    self.keep(env, engine, **ENTRIES[name])

    def rows(self):
        rows = self.sql(
            "SELECT relation FROM cache_change WHERE strpos(relation, ':') > 0"
            " UNION ALL SELECT relation FROM cache_version WHERE capture = 'removal'"
        )
        return sorted(name for (name,) in rows)

    def served(self):
        """What of ENTRIES is still good, for a worker that was there and for another one."""
        served = [
            {name for name, values in ENTRIES.items() if self.is_served(engine, key=values['key'])}
            for engine in (self.engine, self.other)
        ]
        self.assertEqual(*served)
        return served[0]

    def assertFolds(self, form, gone, into):
        """Four removals of others than ENTRIES become one, and only what may have been one of
        them is gone; three stay what they are."""
        names = [form.format(10**6 + number) for number in range(4)]
        with self.subTest(form):
            self.drop_removals()
            self.forget()
            self.keep_entries()
            self.fold(names[:3])
            self.assertEqual(self.rows(), sorted(names[:3]))
            self.assertEqual(self.served(), set(ENTRIES))
            self.fold(names[3:])
            self.assertEqual(self.rows(), into)
            self.assertEqual(self.served(), set(ENTRIES) - gone)
            # once more: what was kept in between goes as well
            self.keep_entries()
            self.assertEqual(self.served(), set(ENTRIES))
            self.fold(names)
            self.assertEqual(self.rows(), into)
            self.assertEqual(self.served(), set(ENTRIES) - gone)

    def test_keys_of_named_entries(self):
        self.assertFolds('key:v1:tc_other:{}', NAMED, [journal.ALL_NAMED])

    def test_patterns_of_named_entries(self):
        for form in ('pattern:v1:tc_other:{}:*', 'pattern:v1:ot?er{}', 'pattern:v2[a]:{}'):
            self.assertFolds(form, NAMED, [journal.ALL_NAMED])

    def test_keys_and_patterns_of_reads(self):
        for form in ('key:v1:orm:res.partner:read:{}', 'pattern:v1:orm:res.partner:{}*'):
            self.assertFolds(form, CALLS, [journal.ALL_CALLS])

    def test_removals_of_tags(self):
        self.assertFolds('tag:{}', TAGGED, [journal.ALL_TAGS])

    def test_removals_of_users(self):
        self.assertFolds('user:{}', OF_USERS, [journal.ALL_USERS])

    def test_patterns_that_may_mean_anything(self):
        for form in (
            'pattern:*:{}',
            'pattern:v1:*:{}',
            'pattern:v[12]:orm:{}',
            'pattern:v1:or?:{}',
        ):
            self.assertFolds(form, set(ENTRIES), [])

    def test_only_those_go_of_which_there_are_most(self):
        few = ['key:v1:orm:a:b:1', 'user:1000000', 'pattern:v1:tc_other:*', 'pattern:*:7']
        self.keep_entries('named', 'call')
        self.fold([*few, *(f'tag:tc_{number}' for number in range(4))])
        self.assertEqual(self.rows(), sorted([*few, journal.ALL_TAGS]))
        self.assertEqual(self.served(), {'named', 'call'})

    def test_what_one_of_very_many_has_removed_is_not_served(self):
        """Also when it was computed before, and is kept after all became one."""
        for kind in ('key', 'variant', 'keys', 'pattern', 'tag', 'user'):
            for settled in (False, True):
                with self.subTest(kind=kind, settled=settled):
                    self.commit(self.keep)
                    with self.computing() as slow:
                        self.remove(kind)
                        if settled:
                            self.settle_removals()
                        self.fold([], limit=0)
                        self.keep(slow)
                    self.assertEqual(self.everywhere(), [False, False])
                    self.assertEqual(self.everywhere(weak=True), [False, False])
                    self.commit(self.keep)
                    self.assertEqual(self.everywhere(), [True, True])

    def test_the_one_is_not_forgotten_while_somebody_does_not_see_it(self):
        for kind in ('key', 'tag', 'user'):
            with self.subTest(kind):
                with self.computing() as slow:
                    self.remove(kind)
                    self.fold([], limit=0)
                    self.compact(ttl_s=0)
                    self.compact(ttl_s=0)
                    self.keep(slow)
                self.assertEqual(self.everywhere(), [False, False])

    def test_names_of_the_one_cannot_be_given_to_anything_else(self):
        for kind in KINDS:
            self.remove(kind)
        self.assertFalse(
            {journal.ALL_NAMED, journal.ALL_TAGS, journal.ALL_USERS}.intersection(self.rows())
        )
        with self.request() as env:
            for method in ('invalidate_key', 'invalidate_tag'):
                with self.subTest(method), self.assertRaisesRegex(Exception, 'must not be empty'):
                    getattr(env['cache.manager'], method)('')


@tagged('post_install', '-at_install')
class TestFoldsOfReads(CacheCase):
    """What is computed, kept and removed for real, in two workers."""

    def read(self, env):
        return env['res.country'].search_read([('code', '=', 'BE')], ['name'])

    def named(self, env):
        return env['cache.manager'].get_or_compute('tc:belgium', lambda: self.read(env))

    def assertSurvives(self, survivor, victim, remove):
        """Of two entries, after very many removals of others like the second."""
        self.addCleanup(RemovalCase.drop_removals.__func__, type(self))
        for call in (survivor, victim):
            self.warm(call)
        with self.other_worker() as other:
            for call in (survivor, victim):
                self.warm(call)
            self.commit(remove)
            with patch.object(journal, 'MAX_NAMED', 10):
                self.engine.compact()
        for engine in (self.engine, other):
            with patch.dict(self.registry.__dict__, {'_tiered_cache_engine': engine}):
                with self.assertHit('l1'), self.request() as env:
                    survivor(env)
                with self.assertMiss('stale', 'removal'), self.request() as env:
                    victim(env)

    def test_reads_survive_very_many_removals_of_named_entries(self):
        def remove(env):
            for number in range(11):
                env['cache.manager'].delete(f'tc:order:{number}')

        self.assertSurvives(self.read, self.named, remove)

    def test_named_entries_survive_very_many_removals_of_reads(self):
        def remove(env):
            keys = [f'v1:orm:res.partner:read:{number:032x}' for number in range(11)]
            env['cache.manager'].invalidate_keys(keys)

        self.assertSurvives(self.named, self.read, remove)

    def test_removals_of_many_tags_leave_what_has_none(self):
        def remove(env):
            for number in range(11):
                env['cache.manager'].invalidate_tag(f'tc_{number}')

        def tagged_entry(env):
            return env['cache.manager'].get_or_compute('tc:t', lambda: 1, tags=['tc_prices'])

        self.addCleanup(RemovalCase.drop_removals.__func__, type(self))
        for call in (self.read, self.named, tagged_entry):
            self.warm(call)
        self.commit(remove)
        with patch.object(journal, 'MAX_NAMED', 10):
            self.engine.compact()
        with self.assertHit('l1'), self.request() as env:
            self.read(env)
            self.named(env)
        with self.assertMiss('stale', 'tag:tc_prices'), self.request() as env:
            tagged_entry(env)
