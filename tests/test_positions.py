"""Reads that show where a sequence stands: exact, although no snapshot shows it."""

from odoo.tests import tagged

from ..services import auditor, positions, reading
from ..services.recorder import Recording
from .common import CacheCase


@tagged('post_install', '-at_install')
class TestPositions(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.row = cls.make_for_class('ir.sequence', {'name': 'tc', 'prefix': 'TC', 'padding': 3})
        cls.sequence = f'ir_sequence_{cls.row:03d}'

    def setUp(self):
        super().setUp()
        self.sql(f'ALTER SEQUENCE {self.sequence} INCREMENT BY 1 RESTART WITH 7')
        self.forget()

    def rows(self, env):
        return env['ir.sequence'].search_read(
            [('id', '=', self.row)], ['name', 'number_next_actual']
        )

    def next(self, env):
        return self.rows(env)[0]['number_next_actual']

    def test_it_is_served_while_the_sequence_stands_still(self):
        self.warm(self.next)
        with self.assertHit():
            self.assertEqual(self.assertExact(self.next), 7)

    def test_it_is_computed_once_the_sequence_has_moved(self):
        for statement, expected in (
            (f"SELECT nextval('{self.sequence}')", 8),
            (f"SELECT setval('{self.sequence}', 7, false)", 7),
            (f"SELECT setval('{self.sequence}', 7, true)", 8),
            (f'ALTER SEQUENCE {self.sequence} INCREMENT BY 5', 12),
            (f'ALTER SEQUENCE {self.sequence} RESTART WITH 3', 3),
        ):
            with self.subTest(statement=statement):
                self.warm(self.next)
                self.sql(statement)
                with self.assertMiss('stale', f'sequence:{self.sequence}'):
                    self.assertEqual(self.assertExact(self.next), expected)

    def test_also_when_whoever_moved_it_has_not_committed(self):
        self.warm(self.next)
        with self.request(commit=False) as other:
            other['ir.sequence'].browse(self.row).next_by_id()
            with self.assertMiss('stale'):
                self.assertEqual(self.assertExact(self.next), 8)
        self.assertEqual(self.assertExact(self.next), 8)

    def test_also_within_a_transaction_that_saw_it_before(self):
        self.warm(self.next)
        with self.request() as env:
            env['res.bank'].search_count([])
            self.assertEqual(self.next(env), 7)
            self.sql(f"SELECT nextval('{self.sequence}')")
            env.invalidate_all()
            value = self.next(env)
            self.assertSame(value, self.plain(self.next, env))
        self.assertEqual(value, 8)

    def test_a_number_in_memory_is_not_asked_for_again(self):
        self.warm(self.next)
        with self.request() as env:
            self.assertEqual(env['ir.sequence'].browse(self.row).number_next_actual, 7)
            self.sql(f"SELECT nextval('{self.sequence}')")
            self.sql(f"SELECT setval('{self.sequence}', 7, false)")
            with self.assertComputed():
                self.assertSame(self.next(env), self.plain(self.next, env))

    def test_a_sequence_that_is_gone_is_not_asked_for(self):
        id_ = self.make('ir.sequence', {'name': 'tc gone'})

        def read(env):
            return env['ir.sequence'].search_read([('id', '=', id_)], ['number_next_actual'])

        self.warm(read)
        self.commit(lambda env: env['ir.sequence'].browse(id_).unlink())
        with self.assertMiss('stale', 'ir_sequence'):
            self.assertEqual(self.assertExact(read), [])

    def test_every_tier_asks(self):
        self.configure(l3_enabled='1')
        self.warm(self.next)
        self.settle()
        self.engine.hierarchy.tiers['l1'].clear()
        with self.assertHit('l3'):
            self.assertExact(self.next)
        self.engine.hierarchy.tiers['l1'].clear()
        self.sql(f"SELECT nextval('{self.sequence}')")
        with self.assertMiss('stale'):
            self.assertEqual(self.assertExact(self.next), 8)

    def test_nothing_is_kept_where_hits_may_be_older_than_their_transaction(self):
        for consistency in ('eventual', 'weak'):
            self.configure(consistency=consistency)
            self.forget()
            for _turn in range(3):
                with self.assertMiss('uncacheable', 'sequence'):
                    self.assertExact(self.next)
                self.settle()

    def test_named_entries_do_not_depend_on_it(self):
        """They may be older than their transaction: what has read a sequence is not kept."""

        def named(env):
            return env['cache.manager'].get_or_compute('v1:tc_position', lambda: self.next(env))

        for _turn in range(3):
            with self.request() as env:
                named(env)
            self.settle()
        self.sql(f"SELECT nextval('{self.sequence}')")
        with self.request() as env:
            self.assertEqual(named(env), 8)

    def test_an_outer_read_takes_it_over(self):
        dependencies = [('sequence:ir_sequence_001', 5, None)]
        for positions_, others, refusal, expected in (
            (True, [], '', {'sequence:ir_sequence_001': 5}),
            (True, [('sequence:ir_sequence_001', 6, None)], 'sequence', None),
            (False, [], 'sequence', None),
        ):
            recording = Recording(None, None, positions_)
            recording.inherit(dependencies + others, False)
            self.assertEqual(recording.refusal, refusal)
            self.assertFalse(recording.relations)
            if expected is not None:
                self.assertEqual(recording.positions, expected)

    def recording(self, env):
        return Recording(env.cr, self.engine.read_text, positions=True)

    def test_two_positions_in_one_computation_are_refused(self):
        with self.request() as env, self.recording(env) as recording:
            plain = env['ir.sequence'].browse(self.row)
            plain.number_next_actual  # noqa: B018 reads it
            self.assertFalse(recording.refusal)
            self.sql(f"SELECT nextval('{self.sequence}')")
            env.invalidate_all()
            plain.number_next_actual  # noqa: B018 reads it
        self.assertEqual(recording.refusal, 'sequence')

    def test_only_the_question_of_odoo_is_understood(self):
        for text in (
            f'SELECT last_value FROM {self.sequence}',
            f'SELECT last_value, is_called FROM "{self.sequence}"',
            "SELECT last_value, (SELECT increment_by FROM pg_sequences WHERE sequencename ="
            f" 'ir_sequence_999'), is_called FROM \"{self.sequence}\"",
        ):
            with self.request() as env, self.recording(env) as recording:
                env.cr.execute(text)
            self.assertTrue(recording.refusal, text)
            self.assertFalse(recording.positions)

    def test_an_audit_is_not_fooled_by_a_sequence_that_moves(self):
        self.warm(self.next)
        self.configure(audit_rate='1')
        plain = auditor.audit

        def audit(*args):
            self.sql(f"SELECT nextval('{self.sequence}')")
            return plain(*args)

        self.patch(auditor, 'audit', audit)
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.next(env), 8)
        self.assertFalse(self.engine.suspender.suspended(('ir.sequence', 'search_read')))

    def test_the_form_of_an_entry_tells(self):
        self.configure(l3_enabled='1')
        self.warm(self.next)
        self.settle()
        with self.request() as env:
            (entry,) = env['cache.entry'].search([('model', '=', 'ir.sequence')])
            self.assertTrue(entry.is_valid)
            self.assertIn(f'sequence {self.sequence}', entry.dependencies)
        self.sql(f"SELECT nextval('{self.sequence}')")
        with self.request() as env:
            self.assertFalse(env['cache.entry'].browse(entry.id).is_valid)
        with self.request() as env:
            self.assertFalse(positions.stands(env.cr, 'sequence:ir_sequence_999999', 1))

    def test_a_prefix_with_the_time_of_day_lives_briefly(self):
        noted = []
        self.patch(reading, 'is_recording', lambda: True)
        self.patch(reading, 'note_clock', lambda: noted.append(True))
        for prefix, expected in (
            (False, 0),
            ('TC/%(year)s/', 0),
            ('%(h24)s', 1),
            ('%(range_min)s', 1),
        ):
            with self.request(commit=False) as env:
                sequence = env['ir.sequence'].browse(self.row)
                sequence.prefix = prefix
                env.flush_all()
                noted.clear()  # writing has asked for the time, too
                sequence.get_next_char(1)
            self.assertEqual(len(noted), expected, prefix)
