"""What an answer depends on besides the database: the order of companies, any key of the context,
clocks in all their forms, files, settings and temporary tables of a connection."""

import contextlib
import threading
import time
from datetime import date, datetime, timedelta
from unittest.mock import patch

from odoo import api, fields, http
from odoo.addons.base.models.ir_model import make_compute
from odoo.fields import Domain
from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..models import replay
from ..services import clock, reading
from ..services.recorder import OrmCacheReader
from ..services.statements import has_set, temporary
from .common import ADMIN, CacheCase


class InputsCase(CacheCase):
    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Inputs'})

    def names(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['display_name'])

    def name_banks(self, name):
        """Let ``name(record)`` be the name of every bank."""

        def compute(records):
            for record in records:
                record.display_name = name(record)

        self.patch(self.registry['res.bank'], '_compute_display_name', compute)


@tagged('post_install', '-at_install')
class TestContextInputs(InputsCase):
    def test_the_order_of_all_companies(self):
        """Odoo's ``fiscal_country_codes`` names countries in the order of the companies."""
        companies = [1, *(self.make('res.company', {'name': f'Inputs {n}'}) for n in 'ab')]
        self.commit(
            lambda env: (
                env['res.users']
                .browse(ADMIN)
                .write({'company_ids': [(4, id_) for id_ in companies[1:]]})
            )
        )
        self.addCleanup(
            self.commit,
            lambda env: (
                env['res.users']
                .browse(ADMIN)
                .write({'company_ids': [(3, id_) for id_ in companies[1:]]})
            ),
        )
        self.name_banks(lambda record: ','.join(record.env.companies.mapped('name')))
        self.warm(self.names, allowed_company_ids=companies)
        other = [companies[0], companies[2], companies[1]]
        self.assertExact(self.names, allowed_company_ids=other)

    def test_the_user_that_the_context_names(self):
        """Code of modules asks the context, and may be called in the name of another user."""
        self.name_banks(lambda record: str(record.env.context.get('uid')))

        def read(env):
            return self.names(env(user=ADMIN))

        self.warm(read, uid=ADMIN)
        for uid in (5, 6):
            with self.subTest(uid), self.request() as env:
                own = env(context={**env.context, 'uid': uid})
                self.assertSame(read(own), self.plain(read, own))

    def test_the_address_of_the_web_client(self):
        self.name_banks(lambda record: str(record.env.context.get('params')))
        self.warm(self.names, params={'action': 7})
        self.assertExact(self.names, params={'action': 8})


@tagged('post_install', '-at_install')
class TestClockInputs(InputsCase):
    """A result whose computation looked at the time of day lives for as long as told."""

    def assertLives(self, seconds, read=None, before=lambda env: None):
        self.configure(time_dependent_ttl_s='77', l1_ttl_s='999')

        def call(env):
            before(env)
            return (read or self.names)(env)

        self.warm(call)
        lives = {
            round(entry.expires - entry.created)
            for entry in self.engine.hierarchy.tiers['l1']._cache.values()
        }
        self.assertEqual(lives, {seconds})

    def in_search(self, call):
        search = self.registry['res.bank']._search

        def searching(records, *args, **kwargs):
            call(records)
            return search(records, *args, **kwargs)

        self.patch(self.registry['res.bank'], '_search', searching)

    def test_the_time_of_a_cursor_that_was_asked_before(self):
        self.in_search(lambda records: records.env.cr.now())
        self.assertLives(77, before=lambda env: env.cr.now())

    def test_the_date_in_another_time_zone_than_the_user_s(self):
        self.in_search(
            lambda records: fields.Date.context_today(records.with_context(tz='Asia/Tokyo'))
        )
        self.assertLives(77)

    def test_the_date_in_the_user_s_time_zone(self):
        self.in_search(lambda records: fields.Date.context_today(records))
        self.assertLives(999)

    def test_what_is_made_of_another_answer_ends_with_it(self):
        self.configure(time_dependent_ttl_s='77', l1_ttl_s='999')
        search = self.registry['res.country']._search

        def count(env):
            return env['res.bank'].search_count([('create_date', '>', '-3H')])

        def searching(records, *args, **kwargs):
            count(records.env)
            return search(records, *args, **kwargs)

        self.patch(self.registry['res.country'], '_search', searching)
        self.warm(count)
        time.sleep(0.5)
        self.warm(lambda env: env['res.country'].search_read([('code', '=', 'BE')], ['name']))
        entries = self.engine.hierarchy.tiers['l1']._cache.values()
        ends = {entry.model: entry.expires for entry in entries}
        self.assertLessEqual(ends['res.country'], ends['res.bank'])

    def test_groups_within_a_named_entry(self):
        field = self.registry['res.bank']._fields['name']
        slots = self.registry.__dict__
        slots.pop(clock._SLOT, None)
        self.addCleanup(slots.pop, clock._SLOT, None)
        self.patch(field, 'search', lambda _records, _operator, _value: datetime.now())
        for number, group in enumerate(
            (
                lambda banks: banks._read_group([], ['name'], ['__count']),
                lambda banks: banks.formatted_read_grouping_sets([], [['name']], ['__count']),
            )
        ):

            def read(env, name=f'groups:{number}', group=group):
                return env['cache.manager'].get_or_compute(
                    name, lambda: group(env['res.bank']), ttl_s=999
                )

            with self.subTest(number):
                self.assertLives(77, read)

    def test_a_clock_that_is_set_back_lets_nothing_live_longer(self):
        def count(env):
            return env['res.bank'].search_count([('create_date', '>', '-3H')])

        self.warm(count)
        real = time.time
        with (
            patch.object(reading.time, 'time', lambda: real() - 3600),
            self.assertMiss('expired', 'clock'),
            self.request() as env,
        ):
            count(env)

    def with_search_by_clock(self):
        """Let the search method of a field of countries look at the clock."""
        field = self.registry['res.country']._fields['display_name']

        def search(_records, _operator, _value):
            return [('create_date', '<', datetime.now() - timedelta(hours=1))]

        patched = patch.object(field, 'search', search)
        patched.start()
        self.addCleanup(patched.stop)

    def test_a_search_method_that_a_path_leads_to(self):
        self.with_search_by_clock()
        for domain in (
            [('country.display_name', '=', 'x')],
            [('country', 'any', [('display_name', '=', 'x')])],
            Domain('country.display_name', '=', 'x'),
        ):
            with self.subTest(str(domain)):
                self.forget()
                self.assertLives(77, lambda env, d=domain: env['res.bank'].search_count(d))

    def test_a_search_within_a_computation(self):
        self.with_search_by_clock()
        self.in_search(
            lambda records: records.env['res.country'].search([('display_name', '=', 'x')])
        )
        self.assertLives(77)

    def test_sql_that_says_today(self):
        self.in_search(lambda records: records.env.cr.execute("SELECT 'today'::date"))
        self.assertLives(77)


@tagged('post_install', '-at_install')
class TestClockCode(BaseCase):
    def test_today_with_its_time(self):
        class Looks:
            def _today(self):
                return datetime.today()

            def _date(self):
                return date.today(), fields.Date.today(), fields.Datetime.today()

        self.assertIn('clock', clock._uses(Looks, '_today'))
        self.assertNotIn('clock', clock._uses(Looks, '_date'))

    def test_code_that_people_have_written_for_a_field(self):
        by_time = make_compute("for r in self: r['x_age'] = datetime.datetime.now()", '')
        self.assertIn('clock', clock._uses(object, by_time))
        by_date = make_compute("for r in self: r['x_age'] = datetime.date.today()", '')
        self.assertNotIn('clock', clock._uses(object, by_date))


@tagged('post_install', '-at_install')
class TestMemoryInputs(InputsCase):
    """What another part of the process has in memory."""

    PARAMETER = 'tiered_cache_test.inputs'

    def setUp(self):
        super().setUp()
        self.make('ir.config_parameter', {'key': self.PARAMETER, 'value': 'true'})
        self.name_banks(
            lambda record: record.env['ir.config_parameter'].sudo().get_param(self.PARAMETER)
        )

    def fill(self, env):
        """Change a parameter, and let ``tools.ormcache`` have it."""
        parameters = env['ir.config_parameter'].sudo()
        parameters.set_param(self.PARAMETER, 'undone')
        self.assertEqual(parameters.get_param(self.PARAMETER), 'undone')

    def assertNotSpread(self):
        """Nothing of it is kept that another worker would be served."""
        for _attempt in range(3):
            with self.request() as env:
                self.names(env)
            self.settle()
        self.registry.clear_all_caches()
        self.registry.reset_changes()
        with self.request() as env:
            self.assertEqual(self.names(env)[0]['display_name'], 'true')

    def test_what_was_undone_by_a_savepoint(self):
        self.warm(self.names)
        self.forget()
        with self.request() as env, env.cr.savepoint() as savepoint:
            self.fill(env)
            savepoint.rollback()
        self.assertNotSpread()

    def test_what_was_undone_by_a_rollback_that_odoo_does_not_know_of(self):
        self.warm(self.names)
        self.forget()
        with contextlib.closing(self.registry.cursor()) as cr:
            with patch.object(self.registry, '_invalidation_flags', threading.local()):
                self.fill(api.Environment(cr, ADMIN, {}))
            cr.rollback()
        self.assertNotSpread()

    def test_what_code_has_noted_on_the_cursor(self):
        """Read before the recording began, it sends no SQL."""

        def name(record):
            notes = record.env.cr.cache
            if 'inputs' not in notes:
                record.env.cr.execute("SELECT name FROM res_country WHERE code = 'BE'")
                notes['inputs'] = str(record.env.cr.fetchone()[0]['en_US'])
            return notes['inputs']

        self.name_banks(name)

        def read(env):
            name(env['res.bank'])
            return self.names(env)

        for _attempt in range(3):
            with self.assertMiss() as calls, self.request() as env:
                read(env)
            self.settle()
        self.assertEqual(calls[-1].why, 'orm_cache')


@tagged('post_install', '-at_install')
class TestZoneInputs(InputsCase):
    """The time zone of the user, which Odoo keeps on each environment."""

    def setUp(self):
        super().setUp()
        self.set_zone('Europe/Brussels')
        self.addCleanup(self.set_zone, 'Europe/Brussels')

    def set_zone(self, zone):
        self.sql(
            "UPDATE res_partner SET tz = %s"
            " WHERE id = (SELECT partner_id FROM res_users WHERE id = %s)",
            [zone, ADMIN],
        )

    def assertFollowsZone(self, read):
        def call(env):
            self.assertTrue(env.tz)  # from here on in memory
            env.invalidate_all()
            return read(env)

        before = self.warm(call, tz=None)
        self.set_zone('Asia/Tokyo')
        self.assertNotEqual(self.assertExact(call, tz=None), before)

    def test_a_read(self):
        self.name_banks(lambda record: str(record.env.tz))
        self.assertFollowsZone(self.names)

    def test_a_named_entry(self):
        self.assertFollowsZone(
            lambda env: env['cache.manager'].get_or_compute('inputs:zone', lambda env: str(env.tz))
        )


@tagged('post_install', '-at_install')
class TestFileInputs(CacheCase):
    def test_a_file_that_is_missing_for_a_moment(self):
        attachment = self.make('ir.attachment', {'name': 'Inputs', 'raw': b'inputs of a file'})

        def read(env):
            return env['ir.attachment'].browse(attachment).read(['raw'])

        def unreadable(*_args, **_kwargs):
            raise OSError('away')

        with patch('odoo.addons.base.models.ir_attachment.open', unreadable, create=True):
            for _attempt in range(3):
                with self.request() as env:
                    read(env)
                self.settle()
        self.assertExact(read)


@tagged('post_install', '-at_install')
class TestConnectionInputs(InputsCase):
    def test_settings_in_whatever_clothes(self):
        for statement in (
            f"\n{' ' * 60}SET LOCAL TimeZone TO 'Asia/Tokyo'",
            "SELECT pg_catalog.set_config('TimeZone', 'Asia/Tokyo', true)",
            "SELECT 1, set_config('TimeZone', 'Asia/Tokyo', true)",
            "WITH x AS (SELECT set_config('TimeZone', 'Asia/Tokyo', true)) SELECT * FROM x",
            "SELECT  set_config('TimeZone', 'Asia/Tokyo', true)",
            "UPDATE pg_settings SET setting = 'Asia/Tokyo' WHERE name = 'TimeZone'",
        ):
            with self.subTest(statement.strip()), self.request(commit=False) as env:
                env.cr.execute(statement)
                self.assertTrue(has_set(env.cr))

    def test_names_of_temporary_tables(self):
        for statement in (
            'CREATE TEMP TABLE inputs (id int)',
            'create  temporary\ntable if not exists inputs as select 1',
            'CREATE LOCAL TEMPORARY TABLE "inputs" (id int)',
            'CREATE OR REPLACE TEMP VIEW inputs AS SELECT 1',
            'CREATE TABLE pg_temp.Inputs (id int)',
            'SELECT 1 AS id INTO TEMP inputs',
            'SELECT 1 AS id INTO TEMPORARY TABLE inputs',
        ):
            with (
                self.subTest(statement),
                self.request(commit=False) as env,
                patch.dict(env.cr._cnx.__dict__, {'_tiered_cache_temporary': frozenset()}),
            ):
                env.cr.execute(statement)
                self.assertEqual(temporary(env.cr), {'inputs'})

    def test_a_temporary_table_with_a_name_of_its_own(self):
        self.warm(self.names)
        with self.request() as env:
            self.addCleanup(env.cr._cnx.__dict__.pop, '_tiered_cache_temporary', None)
            env.cr.execute("CREATE TEMPORARY TABLE inputs ON COMMIT DROP AS SELECT 1")
            env.cr.commit()
            with self.assertHit():
                self.names(env)

    def test_a_temporary_table_with_the_name_of_a_real_one(self):
        self.warm(self.names)
        with self.request() as env:
            # whoever borrows the connection after this test shall be served again
            self.addCleanup(env.cr._cnx.__dict__.pop, '_tiered_cache_temporary', None)
            env.cr.execute("CREATE TEMPORARY TABLE res_bank AS SELECT * FROM res_bank")
            env.cr.execute("UPDATE res_bank SET name = 'Temporary'")
            env.cr.commit()
            with contextlib.ExitStack() as stack:
                stack.callback(env.cr.execute, "DROP TABLE pg_temp.res_bank")
                # the pool lends this connection to the next test
                stack.callback(env.cr._cnx.__dict__.pop, '_tiered_cache_temporary')
                self.assertSame(self.names(env), self.plain(self.names, env))


@tagged('post_install', '-at_install')
class TestRequestInputs(InputsCase):
    """What code of Odoo looks at in a web request."""

    def setUp(self):
        super().setUp()
        values = {'session_identifier': 'one', 'user_id': ADMIN}
        self.device = self.make('res.device.log', values)

    def inside(self, call, language='en_US', session=''):
        def work(env):
            with replay.request_scope(env, ('http', 'a.example.com', None, '', language)):
                http.request.session.sid = session
                return call(env)

        return work

    def test_the_language_of_the_request(self):
        """In a context without a language ``_()`` takes that of the request."""

        def title(record):
            return record.env['res.device.log'].sudo().browse(self.device).display_name

        def read(env):
            return self.names(env(context={'tz': 'UTC'}))

        self.name_banks(title)
        self.use_language('fr_FR')
        english = self.warm(self.inside(read))
        self.assertNotEqual(self.assertExact(self.inside(read, 'fr_FR')), english)

    def test_a_session_that_shapes_an_order(self):
        other = self.make('res.device.log', {'session_identifier': 'other', 'user_id': ADMIN})
        devices = {'fields': {'platform': {}}, 'order': 'is_current desc'}

        def read(env):
            return env['res.users'].browse(ADMIN).web_read({'device_ids': devices})

        for _thrice in range(3):
            with self.request() as env:
                self.inside(read, session='one')(env)
            self.settle()
        found = self.assertExact(self.inside(read, session='other'))
        self.assertEqual(found[0]['device_ids'][0]['id'], other)


@tagged('post_install', '-at_install')
class TestFetchedInputs(InputsCase):
    """A model may show others something else, as ``calendar.event`` does with private events."""

    def setUp(self):
        super().setUp()
        fetch = self.registry['res.bank']._fetch_query

        def fetch_query(records, query, wanted):
            found = fetch(records, query, wanted)
            name = records._fields['name']
            if name in wanted and not records.env.su:
                records.env.cache.update(found, name, ['Busy'] * len(found))
            return found

        self.patch(self.registry['res.bank'], '_fetch_query', fetch_query)
        self.patch(self.engine, 'orm_cache', OrmCacheReader(self.registry))

    def bank_of(self, env):
        return env['res.bank'].browse(self.bank).read(['name', 'bic'])

    def test_what_another_user_has_left_in_memory(self):
        for _thrice in range(3):
            with self.request() as env:
                self.assertEqual(env(su=True)['res.bank'].browse(self.bank).name, 'Inputs')
                env['res.bank'].browse(self.bank).invalidate_recordset(['bic'])
                self.bank_of(env)
            self.settle()
        self.assertEqual(self.assertExact(self.bank_of)[0]['name'], 'Busy')
