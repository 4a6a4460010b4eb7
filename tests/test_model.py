"""Model-based test: whatever happens in whatever order, a hit is what the database says.

The one idea: hypothesis draws the operations of ``proof/programs/model_walk.py``; two worker
processes with three open transactions each, L1, L2 and L3 carry them out; every answer of the
cache is compared with what the same transaction computes with the cache off.  Background work
happens only when an operation says so, so a failure is shrunk to a script that fails each time.

``proof/model`` is the same for hours.

What may go wrong: nothing is ever hit, and the test would find nothing.  So hits are counted.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from odoo.tests import BaseCase, get_db_name, tagged

from .redis_server import REDIS_SERVER

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.append(ROOT)

from proof.programs import model_machine, model_scripts, model_walk  # noqa: E402 found by the line above

EXAMPLES = 50
STEPS = 50
SCRIPT = os.environ.get('TIERED_CACHE_MODEL_SCRIPT') or os.path.join(
    tempfile.gettempdir(), 'tiered-cache-model.script'
)


class Operations(RuleBasedStateMachine):
    """One example: operations from the beginning of the records.

    :cvar machine: carries them out
    """

    machine = None

    @initialize(data=st.data())
    def begin(self, data):
        self.machine.reset()
        self.choose = lambda items: data.draw(st.sampled_from(items))
        self.focus = model_walk.Focus(self.choose)

    @rule(data=st.data(), kind=st.sampled_from(model_walk.kinds(model_walk.FEW_READS)))
    def operation(self, data, kind):
        def choose(items):
            return data.draw(st.sampled_from(items))

        self.apply(model_walk.operation(choose, kind, self.focus, self.machine.count))

    def apply(self, operation):
        try:
            self.machine.apply(operation)
        except model_machine.Wrong as error:
            Path(SCRIPT).write_text(model_machine.lines(error.script))
            error.add_note(f'Replay: proof/model --replay {SCRIPT}')
            raise


@tagged('post_install', '-at_install')
class TestModel(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if REDIS_SERVER is None:
            cls.skipTest(cls, "redis-server is not installed")
        stack = cls.enterClassContext(contextlib.ExitStack())
        cls.machine = stack.enter_context(model_machine.Machine(get_db_name()))
        stack.callback(cls.machine.remove)

    def test_scripts(self):
        for name, script in model_scripts.SCRIPTS.items():
            with self.subTest(name):
                self.machine.run(script)

    def test_every_hit_is_what_the_database_says(self):
        machine = self.machine
        machine.steps = 0
        machine.counts.clear()
        run_state_machine_as_test(
            type('Case', (Operations,), {'machine': machine}),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=True,
                database=None,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
        figures = machine.figures()
        self.assertGreaterEqual(machine.steps, 2000, figures)
        self.assertGreater(machine.hits, machine.reads * 0.15, figures)
