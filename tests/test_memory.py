"""Which models stand behind the values of ``tools.ormcache``; see ``services/memory.py``.

What happens where their tables change is among the scripts of ``test_model.py``.
"""

from odoo.addons.tiered_cache.services import memory, reading
from odoo.addons.tiered_cache.services.transaction import state_of
from odoo.tests import tagged

from .common import CacheCase


def read(env):
    return env['res.bank'].search_count([])


@tagged('post_install', '-at_install')
class TestMemory(CacheCase):
    def filled(self):
        """Values of ``tools.ormcache`` after a cached read, with one that is looked for later."""
        values = self.registry._Registry__caches['default']
        self.warm(read)
        values['sentinel'] = 1
        self.addCleanup(values.pop, 'sentinel', None)
        return values

    def test_every_model_of_base_that_clears_the_memory_is_listed(self):
        def clearing(env):
            return {
                model._name
                for model in map(env.__getitem__, env.registry)
                if model._original_module == 'base'
                and not model._abstract
                and not model._transient
                and memory.clears_ormcache(model)
            }

        self.assertEqual(self.commit(clearing), set(memory.MODELS))

    def test_values_of_other_versions_are_dropped(self):
        filled = self.filled()
        self.sql("UPDATE ir_rule SET name = name WHERE id = (SELECT min(id) FROM ir_rule)")
        with self.request() as env:
            read(env)  # no signal was sent
        self.assertNotIn('sentinel', filled)

    def test_values_of_the_same_versions_stay(self):
        filled = self.filled()
        self.sql("UPDATE res_bank SET name = name")
        self.forget()
        with self.assertMiss(), self.request() as env:
            read(env)
        self.assertIn('sentinel', filled)

    def test_an_audit_can_do_without_it(self):
        self.warm(read)
        filled = self.filled()
        with self.request() as env:
            read(env)
            reading._forget(self.engine, env)
            self.assertNotIn('sentinel', filled)
            self.assertTrue(self.engine.memory.fits(state_of(env.cr)))
            filled['sentinel'] = 1
            self.patch(reading, 'is_recording', lambda: True)
            reading._forget(self.engine, env)
            self.assertIn('sentinel', filled)
        self.assertFalse(self.registry.cache_invalidated)

    def test_what_another_transaction_of_the_thread_has_cleared_is_still_told(self):
        self.warm(read)
        to_tell = self.registry.cache_invalidated
        to_tell.add('default')
        self.addCleanup(to_tell.clear)
        self.engine.memory._empty()
        self.assertEqual(to_tell, {'default'})
