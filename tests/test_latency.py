"""Histograms of durations: fixed size, addable, percentiles close to the truth."""

import random

from odoo.tests import BaseCase, tagged

from ..services import latency


def bins_of(durations):
    bins = latency.new_bins()
    for duration_ms in durations:
        bins[latency.bin_of(duration_ms)] += 1
    return bins


@tagged('post_install', '-at_install')
class TestLatency(BaseCase):
    def test_every_duration_has_a_bin(self):
        for duration_ms in (0.0, 1e-9, 0.1, 0.11, 1.0, 999.0, 26_000.0, 1e12):
            self.assertIn(latency.bin_of(duration_ms), range(latency.BINS))

    def test_bounds_are_inclusive(self):
        for index, bound_ms in enumerate(latency.BOUNDS_MS):
            self.assertEqual(latency.bin_of(bound_ms), index)
            self.assertEqual(latency.bin_of(bound_ms * 1.001), index + 1)

    def test_percentiles_are_close_to_those_of_the_durations(self):
        rng = random.Random(7)
        durations = sorted(rng.lognormvariate(1.0, 1.2) for _ in range(5000))
        bins = bins_of(durations)
        for share in (0.05, 0.5, 0.95, 0.99):
            exact = durations[int(share * len(durations)) - 1]
            self.assertAlmostEqual(latency.percentile(bins, share) / exact, 1.0, delta=0.1)

    def test_histograms_add_up(self):
        left, right = bins_of([1, 5, 9]), bins_of([2, 5, 300])
        latency.add(left, right)
        self.assertEqual(left, bins_of([1, 5, 9, 2, 5, 300]))

    def test_without_calls_there_is_no_percentile(self):
        self.assertIsNone(latency.percentile(latency.new_bins(), 0.5))

    def test_what_is_longer_than_all_bounds_counts_as_the_longest(self):
        self.assertEqual(latency.percentile(bins_of([1e9]), 0.5), latency.BOUNDS_MS[-1])
