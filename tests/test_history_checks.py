"""The invariants that programs of ``proof/`` hold answers against, see ``proof/lab/checks.py``."""

import threading
from unittest.mock import patch

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..proof.lab import checks


@tagged('post_install', '-at_install')
class TestBank(BaseCase):
    def setUp(self):
        super().setUp()
        self.bank = checks.Bank('ab', total=10)

    def test_a_transfer_changes_nothing(self):
        self.bank.answer({'a': 10, 'b': 0})
        self.bank.answer({'a': -5, 'b': 15})
        self.assertEqual((self.bank.checked, self.bank.wrong, self.bank.anomalies), (2, 0, []))

    def test_half_a_transfer(self):
        self.bank.answer({'a': 10, 'b': 0}, call='read')
        self.bank.answer({'a': 7, 'b': 0}, call='search_read')
        expected = {'check': 'Bank', 'total': 7, 'expected': 10, 'call': 'search_read'}
        self.assertEqual((self.bank.checked, self.bank.wrong), (2, 1))
        self.assertEqual(self.bank.anomalies, [expected])

    def test_a_sum_alone(self):
        self.bank.answer_sum(10, 2)
        self.bank.answer_sum(9, 2, call='group')
        self.bank.answer_sum(10, 1)
        expected = {'check': 'Bank', 'total': 9, 'accounts': 2, 'call': 'group'}
        self.assertEqual((self.bank.checked, self.bank.wrong), (3, 2))
        self.assertEqual(self.bank.anomalies[0], expected)

    def test_a_missing_account(self):
        self.bank.answer({'a': 10})
        expected = {'check': 'Bank', 'missing': ['b'], 'unexpected': []}
        self.assertEqual(self.bank.anomalies, [expected])

    def test_an_account_that_does_not_exist(self):
        self.bank.answer({'a': 10, 'b': 0, 'c': 0})
        expected = {'check': 'Bank', 'missing': [], 'unexpected': ['c']}
        self.assertEqual(self.bank.anomalies, [expected])

    def test_a_balance_of_another_type(self):
        self.bank.answer({'a': 10, 'b': False})
        self.assertEqual(self.bank.anomalies, [{'check': 'Bank', 'not whole': {'b': False}}])


@tagged('post_install', '-at_install')
class TestRecency(BaseCase):
    def setUp(self):
        super().setUp()
        self.recency = checks.Recency()

    def test_nothing_is_known_before_the_first_acknowledgement(self):
        self.assertIsNone(self.recency.floor('k'))
        self.recency.answer('k', None, self.recency.floor('k'))
        self.assertEqual((self.recency.checked, self.recency.wrong), (1, 0))

    def test_a_version_below_the_floor(self):
        self.recency.acknowledged('k', 3)
        self.recency.answer('k', 2, self.recency.floor('k'), reader=7)
        expected = {'check': 'Recency', 'key': 'k', 'version': 2, 'floor': 3, 'reader': 7}
        self.assertEqual(self.recency.anomalies, [expected])

    def test_a_version_at_or_above_the_floor(self):
        self.recency.acknowledged('k', 3)
        self.recency.answer('k', 3, self.recency.floor('k'))
        self.recency.answer('k', 4, self.recency.floor('k'))
        self.assertEqual((self.recency.checked, self.recency.wrong), (2, 0))

    def test_an_acknowledgement_after_the_read_began_does_not_count(self):
        floor = self.recency.floor('k')
        self.recency.acknowledged('k', 1)
        self.recency.answer('k', 0, floor)
        self.assertEqual(self.recency.anomalies, [])

    def test_a_key_that_is_gone(self):
        self.recency.acknowledged('k', 0)
        self.recency.answer('k', None, self.recency.floor('k'))
        self.assertEqual(self.recency.wrong, 1)

    def test_acknowledgements_in_any_order(self):
        self.recency.acknowledged('k', 5)
        self.recency.acknowledged('k', 4)
        self.recency.acknowledged('other', 9)
        self.assertEqual(self.recency.floor('k'), 5)


@tagged('post_install', '-at_install')
class TestMonotone(BaseCase):
    def setUp(self):
        super().setUp()
        self.monotone = checks.Monotone()

    def answer(self, *versions, session=1, key='k'):
        for version in versions:
            self.monotone.answer(session, key, version)

    def test_versions_that_stay_or_grow(self):
        self.answer(None, 0, 0, 2, 5)
        self.assertEqual((self.monotone.checked, self.monotone.wrong), (5, 0))

    def test_a_version_that_goes_back(self):
        self.answer(1, 2, 1)
        expected = {'session': 1, 'key': 'k', 'version': 1, 'before': 2}
        self.assertEqual(self.monotone.anomalies, [{'check': 'Monotone', **expected}])

    def test_a_step_back_does_not_lower_what_comes_next(self):
        self.answer(2, 1, 1)
        self.assertEqual(self.monotone.wrong, 2)

    def test_a_key_that_disappears(self):
        self.answer(0, None)
        self.assertEqual(self.monotone.wrong, 1)

    def test_sessions_and_keys_are_apart(self):
        self.answer(2)
        self.answer(1, session=2)
        self.answer(1, key='other')
        self.assertEqual(self.monotone.wrong, 0)


@tagged('post_install', '-at_install')
class TestChecksTogether(BaseCase):
    def test_only_the_first_anomalies_are_kept_but_all_are_counted(self):
        bank = checks.Bank('a', total=1)
        with patch.object(checks, 'MAX_KEPT', 3):
            for _ in range(5):
                bank.answer({'a': 0})
        self.assertEqual((len(bank.anomalies), bank.wrong, bank.checked), (3, 5, 5))

    def test_many_threads(self):
        recency, monotone = checks.Recency(), checks.Monotone()

        def work(session):
            for version in range(300):
                floor = recency.floor('k')
                recency.acknowledged('k', version)
                recency.answer('k', recency.floor('k'), floor)
                monotone.answer(session, 'k', recency.floor('k'))

        threads = [threading.Thread(target=work, args=(session,)) for session in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((recency.floor('k'), recency.checked, recency.wrong), (299, 2400, 0))
        self.assertEqual((monotone.checked, monotone.wrong), (2400, 0))
