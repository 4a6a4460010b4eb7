"""What the documentation says about options is what the table of options says."""

import pathlib
import re
import tempfile

from odoo.tests import TransactionCase, tagged

from ..services import keeper, options, pressure
from ..services.named_plan import DEFAULTS
from ..services.tiers.memory import POLICIES

DOCS = pathlib.Path(__file__).parent.parent / 'docs'
START, END = '<!-- options:start -->', '<!-- options:end -->'

_ROW = re.compile(r'^\| `(\w+)` \| (empty|[`\d][^|]*) \|', re.MULTILINE)
"""Rows of a table that begin with a name and a value."""

_NAMED = re.compile(r'`(\w+_(?:s|ms|kb|mb|days|rows|entries|rate|url|policy|enabled))(?:=[^`]*)?`')
"""What looks like the name of an option."""

_OTHER_NAMES = ('age_s', 'flush_s', 'test_snapshot')
"""Of an answer, of a document of the command line, and a switch for tests."""


def option_table() -> str:
    """The options as Markdown, for docs/operators.md."""
    lines = ["| option | default | allowed | what it does |", "|---|---|---|---|"]
    for option in options.OPTIONS.values():
        default = f"`{option.default_text}`" if option.default_text else "empty"
        cells = (
            f"`{option.name}`",
            f"{default} {_unit(option)}".strip(),
            _allowed(option),
            option.help,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return '\n'.join(lines)


def _unit(option) -> str:
    return option.unit if option.kind in ('int', 'float') else ''


def _allowed(option) -> str:
    if option.kind == 'bool':
        return "true, false"
    if option.kind == 'choice':
        return ', '.join(option.choices)
    if option.kind == 'redis_url':
        return "a URL, or empty"
    if option.kind in ('names', 'networks'):
        return {'names': "names of fields, with commas", 'networks': "networks, or empty"}[
            option.kind
        ]
    return f"{options.to_text(option.minimum)} to {options.to_text(option.maximum)}"


@tagged('post_install', '-at_install')
class TestDocs(TransactionCase):
    def test_every_option_stands_in_the_operators_table_with_its_default(self):
        page = (DOCS / 'operators.md').read_text(encoding='utf-8')
        shown = page.partition(START)[2].partition(END)[0].strip()
        self.assertEqual(
            shown,
            option_table(),
            f"Put this table into docs/operators.md between the markers:\n{option_table()}",
        )

    def test_the_administrators_page_shows_every_default(self):
        page = (DOCS / 'administrators.md').read_text(encoding='utf-8')
        defaults = (f"{o.default_text} {o.unit}" for o in options.OPTIONS.values() if o.unit)
        for default in defaults:
            number, unit = default.split(' ', 1)
            with self.subTest(default=default):
                self.assertRegex(page, rf"\| {number} {unit.removesuffix('s')}s? \|")

    def test_the_administrators_page_explains_every_outcome_and_reason(self):
        page = (DOCS / 'administrators.md').read_text(encoding='utf-8')
        for name in ('outcome', 'reason'):
            for _value, label in self.env['cache.metric']._fields[name].selection:
                with self.subTest(**{name: label}):
                    self.assertRegex(page, rf"(\n\| |\*){re.escape(label)}( \||\*)")

    def test_a_default_is_the_same_on_every_page(self):
        found = 0
        for page in DOCS.glob('*.md'):
            for name, cell in _ROW.findall(page.read_text(encoding='utf-8')):
                option = options.OPTIONS.get(name)
                # where named entries have an option of the same name, it has its own default
                if option is None or (page.name == 'named-entries.md' and name in DEFAULTS):
                    continue
                value, _space, unit = cell.partition(':')[0].strip().partition(' ')
                found += 1
                with self.subTest(page=page.name, option=name):
                    self.assertEqual(
                        value.replace(',', '').strip('`'),
                        (option.default_text or 'empty').replace(',', ''),
                    )
                    self.assertEqual(unit, _unit(option))
        self.assertGreater(found, len(options.OPTIONS))

    def test_every_option_that_a_page_names_exists(self):
        known = {*options.OPTIONS, *DEFAULTS, *_OTHER_NAMES}
        for model in ('cache.rule', 'cache.namespace', 'cache.metric', 'cache.entry'):
            known.update(self.env[model]._fields)
        for page in (*DOCS.glob('*.md'), DOCS.parent / 'README.md'):
            text = page.read_text(encoding='utf-8')
            # names of figures for Prometheus are those that /cache/1/metrics gives: test_monitoring
            named = {name for name in _NAMED.findall(text) if not name.startswith('tiered_cache_')}
            named |= {name.lower() for name in re.findall(r'\bTIERED_CACHE_([A-Z0-9_]+)\b', text)}
            with self.subTest(page=page.name):
                self.assertLessEqual(named, known)

    def test_links_between_pages_lead_somewhere(self):
        for page in (*DOCS.glob('*.md'), DOCS.parent / 'README.md'):
            for target in _links(page.read_text(encoding='utf-8')):
                name, _hash, anchor = target.partition('#')
                other = (page.parent / name).resolve() if name else page
                with self.subTest(page=page.name, target=target):
                    self.assertTrue(other.exists())
                    if anchor:
                        self.assertIn(anchor, _anchors(other.read_text(encoding='utf-8')))


@tagged('post_install', '-at_install')
class TestMemoryPage(TransactionCase):
    """docs/memory.md says what the code does."""

    def setUp(self):
        super().setUp()
        self.page = (DOCS / 'memory.md').read_text(encoding='utf-8')

    def test_every_policy_is_explained_and_compared(self):
        for policy in POLICIES:
            self.assertGreaterEqual(self.page.count(f'\n| `{policy}` |'), 6, policy)

    def test_shares_and_times_are_those_of_the_code(self):
        for share in (pressure.SHED_AT, pressure.HALVE_AT, pressure.OVER_AT):
            self.assertIn(
                f'| {share:.0%}'.replace('%', ' %').replace('| 75', '| below 75'), self.page
            )
        for seconds in (keeper.STALL_S, keeper.LEAVE_S):
            self.assertIn(f'{seconds:.0f} seconds', self.page)

    def test_defaults_are_those_of_the_options(self):
        rows = re.findall(
            r'^\| `(\w+)` \| ([\d,]+|`\w+`)(?: (\w+))?(?::[^|]*)? \|', self.page, re.MULTILINE
        )
        shown = {name: (value.replace(',', '').strip('`'), unit) for name, value, unit in rows}
        limits = {
            name for name in options.OPTIONS if name.endswith(('_max_entries', '_mb', '_policy'))
        }
        for name in limits:
            option = options.OPTIONS[name]
            self.assertEqual(shown.get(name), (option.default_text, option.unit), name)

    def test_the_example_is_understood(self):
        example = self.page.partition('```ini')[2].partition('```')[0]
        with tempfile.NamedTemporaryFile('w', suffix='.conf', encoding='utf-8') as file:
            file.write(example)
            file.flush()
            settings = options.load({}, environ={}, config_path=file.name)
        self.assertEqual(settings.problems, [])
        self.assertEqual((settings.memory_limit_mb, settings.l2_max_mb), (1024, 64))


def _links(text: str) -> list[str]:
    targets = (part.partition(')')[0] for part in text.split('](')[1:])
    return [''.join(target.split()) for target in targets if '://' not in target]


def _anchors(text: str) -> set[str]:
    """Names that GitHub gives to the headings of a page."""
    headings = (line.lstrip('#').strip() for line in text.splitlines() if line.startswith('#'))
    return {
        ''.join(c for c in heading.lower() if c.isalnum() or c in ' -_').replace(' ', '-')
        for heading in headings
    }
