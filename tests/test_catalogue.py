"""What an SQL text is said to read; in a transaction whose tables are rolled back."""

import contextlib

from odoo.addons.tiered_cache.services.catalogue import Catalogue
from odoo.tests import tagged

from .common import CacheCase

OBJECTS = """
CREATE TABLE tc_one (id int PRIMARY KEY, two_id int, value text);
CREATE TABLE tc_two (id int PRIMARY KEY, at timestamp);
CREATE VIEW tc_view AS SELECT o.id, t.at FROM tc_one o JOIN tc_two t ON t.id = o.two_id;
CREATE VIEW tc_view_on_view AS SELECT id FROM tc_view;
CREATE VIEW tc_clock_view AS SELECT id FROM tc_two WHERE at < now();
CREATE VIEW tc_catalogue_view AS SELECT relname FROM pg_class;
CREATE VIEW tc_schema_view AS SELECT table_name FROM information_schema.tables;
CREATE VIEW tc_random_view AS SELECT id, random() AS r FROM tc_one;
CREATE VIEW tc_on_clock_view AS SELECT id FROM tc_clock_view;
CREATE VIEW tc_on_random_view AS SELECT id FROM tc_random_view;
CREATE VIEW tc_on_catalogue_view AS SELECT relname FROM tc_catalogue_view;
CREATE FUNCTION tc_immutable(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION tc_stable() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM tc_two';
CREATE FUNCTION tc_volatile() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE VIEW tc_function_view AS SELECT id FROM tc_one WHERE id < tc_stable();
CREATE MATERIALIZED VIEW tc_matview AS SELECT id FROM tc_one;
CREATE SEQUENCE tc_sequence;
CREATE TEMP TABLE tc_temporary (id int);
CREATE TABLE tc_parent (id int) PARTITION BY RANGE (id);
CREATE TABLE tc_part_1 PARTITION OF tc_parent FOR VALUES FROM (0) TO (10);
CREATE TABLE tc_part_2 PARTITION OF tc_parent FOR VALUES FROM (10) TO (20);
CREATE TABLE tc_base (id int);
CREATE TABLE tc_heir (extra int) INHERITS (tc_base);
CREATE TABLE tc_secret (id int);
ALTER TABLE tc_secret ENABLE ROW LEVEL SECURITY;
CREATE UNLOGGED TABLE tc_unlogged (id int);
CREATE FUNCTION tc_operate(int, int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT tc_stable()';
CREATE OPERATOR @#@# (LEFTARG = int, RIGHTARG = int, FUNCTION = tc_operate);
CREATE VIEW tc_operator_view AS SELECT id @#@# 2 AS two FROM tc_one;
CREATE FUNCTION tc_add(bigint, int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT tc_stable()';
CREATE AGGREGATE tc_sum (int) (SFUNC = tc_add, STYPE = bigint);
CREATE AGGREGATE tc_harmless_sum (int) (SFUNC = int4_sum, STYPE = bigint);
CREATE TYPE tc_type AS (n bigint);
CREATE FUNCTION tc_cast(int) RETURNS tc_type LANGUAGE sql STABLE AS 'SELECT tc_stable()';
CREATE CAST (int AS tc_type) WITH FUNCTION tc_cast(int);
CREATE FUNCTION tc_of(tc_one) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT tc_stable()';
CREATE TABLE "tc Odd Name" (id int);
CREATE TABLE "TC_Mixed" (id int);
CREATE SCHEMA tc_schema;
CREATE TABLE tc_schema.tc_elsewhere (id int);
"""


@tagged('post_install', '-at_install')
class TestCatalogue(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cr = cls.engine.cursor()
        cls.addClassCleanup(cr.close)
        cls.addClassCleanup(cr.rollback)
        cr.execute(OBJECTS)
        cls.cr = cr
        cls.catalogue = Catalogue(cr)

    def assertReads(self, text, *relations, clock=False):
        """PostgreSQL takes the text, and the catalogue names just these relations."""
        with contextlib.closing(self.cr.connection.cursor()) as cursor:
            cursor.execute("EXPLAIN " + text)
        reading = self.catalogue.reading(text)
        self.assertIsNotNone(reading, 'unknown name')
        self.assertEqual(reading.refusal, '')
        self.assertEqual(reading.relations, frozenset(relations))
        self.assertEqual(reading.clock, clock)

    def assertRefused(self, text, why):
        reading = self.catalogue.reading(text)
        self.assertIsNotNone(reading, 'unknown name')
        self.assertIsNone(reading.relations)
        self.assertIn(why, reading.refusal)

    # -- what is read ------------------------------------------------------------------

    def test_a_table_is_itself(self):
        self.assertReads("SELECT id FROM tc_one", 'tc_one')

    def test_columns_of_a_subquery_are_no_tables(self):
        """As in Odoo's progress bars of activities."""
        self.assertReads(
            "SELECT b.name, x.what FROM res_bank b LEFT JOIN (SELECT country_id,"
            " CASE WHEN min(EXTRACT(day FROM (write_date - create_date))) > 0 THEN 'a' END AS what"
            " FROM res_country_state GROUP BY country_id) AS x ON b.country = x.country_id",
            'res_bank',
            'res_country_state',
        )

    def test_joins_commas_and_subqueries(self):
        self.assertReads("SELECT * FROM tc_one, tc_two", 'tc_one', 'tc_two')
        self.assertReads(
            "SELECT * FROM tc_one o LEFT JOIN tc_two t ON t.id = o.id", 'tc_one', 'tc_two'
        )
        self.assertReads(
            "SELECT * FROM tc_one WHERE id IN (SELECT id FROM tc_two)", 'tc_one', 'tc_two'
        )
        self.assertReads("SELECT (SELECT max(id) FROM tc_two) FROM tc_one", 'tc_one', 'tc_two')

    def test_set_operations_and_common_table_expressions(self):
        self.assertReads(
            "SELECT id FROM tc_one UNION ALL SELECT id FROM tc_two", 'tc_one', 'tc_two'
        )
        self.assertReads(
            "WITH w AS (SELECT id FROM tc_two) SELECT * FROM w JOIN tc_one USING (id)",
            'tc_one',
            'tc_two',
        )
        self.assertReads(
            "WITH RECURSIVE w(id) AS (SELECT id FROM tc_two UNION SELECT w.id + 1"
            " FROM w WHERE id < 5) SELECT * FROM w",
            'tc_two',
        )
        self.assertReads("TABLE tc_one", 'tc_one')

    def test_case_comments_quotes_and_schemas(self):
        self.assertReads('SELECT 1 FROM "tc_one"', 'tc_one')
        self.assertReads('SELECT 1 FROM TC_ONE', 'tc_one')
        self.assertReads('SELECT 1 FROM public.tc_one', 'tc_one')
        self.assertReads('SELECT 1 FROM/**/tc_one', 'tc_one')
        self.assertReads('SELECT 1 FROM -- comment\n tc_one', 'tc_one')
        self.assertReads('SELECT 1 FROM ONLY tc_one', 'tc_one')
        self.assertReads('SELECT 1 FROM "TC_Mixed"', 'TC_Mixed')

    def test_a_name_with_blanks_is_never_lost(self):
        self.assertReads('SELECT 1 FROM tc_one, "tc Odd Name"', 'tc_one', 'tc Odd Name')
        self.assertIsNone(self.catalogue.reading('SELECT 1 FROM "tc Odd Name"'))  # too cautious

    def test_a_view_is_the_tables_under_it(self):
        self.assertReads("SELECT * FROM tc_view", 'tc_one', 'tc_two')

    def test_a_view_on_a_view_is_the_tables_under_both(self):
        self.assertReads("SELECT * FROM tc_view_on_view", 'tc_one', 'tc_two')

    def test_a_view_that_looks_at_the_clock_says_so(self):
        self.assertReads("SELECT * FROM tc_clock_view", 'tc_two', clock=True)

    def test_a_view_on_a_view_that_looks_at_the_clock_says_so(self):
        self.assertReads("SELECT * FROM tc_on_clock_view", 'tc_two', clock=True)

    def test_a_partitioned_table_is_its_partitions_too(self):
        self.assertReads("SELECT * FROM tc_parent", 'tc_parent', 'tc_part_1', 'tc_part_2')

    def test_a_partition_may_be_changed_through_its_parent(self):
        self.assertIn('tc_parent', self.catalogue.reading("SELECT * FROM tc_part_1").relations)

    def test_an_inherited_table_is_its_heirs_too(self):
        self.assertReads("SELECT * FROM tc_base", 'tc_base', 'tc_heir')

    def test_a_text_that_reads_no_table(self):
        self.assertReads("SELECT 1")

    def test_built_in_functions_are_harmless(self):
        self.assertReads(
            "SELECT lower(value), count(*), coalesce(max(id), 0), jsonb_build_array(1)"
            " FROM tc_one GROUP BY 1",
            'tc_one',
        )

    def test_a_function_of_our_own_that_is_immutable_is_harmless(self):
        self.assertReads("SELECT tc_immutable(id) FROM tc_one", 'tc_one')

    def test_extract_from_is_not_a_source(self):
        self.assertReads("SELECT extract(year FROM at) FROM tc_two", 'tc_two')
        self.assertReads("SELECT 1 FROM tc_one WHERE value IS DISTINCT FROM 'x'", 'tc_one')

    def test_clock_words_and_functions_are_noticed(self):
        for word in (
            'now()',
            'CURRENT_TIMESTAMP',
            'CURRENT_DATE',
            'LOCALTIMESTAMP',
            'transaction_timestamp()',
            'age(at)',
        ):
            with self.subTest(word=word):
                self.assertReads(f"SELECT {word} FROM tc_two", 'tc_two', clock=True)

    # -- what is refused ---------------------------------------------------------------

    def test_statements_that_do_not_only_read(self):
        for text in (
            "UPDATE tc_one SET id = 1",
            "INSERT INTO tc_one VALUES (1)",
            "DELETE FROM tc_one",
            "TRUNCATE tc_one",
            "CREATE TABLE tc_x (id int)",
            "SET LOCAL x.y = '1'",
            "LOCK TABLE tc_one",
            "COPY tc_one TO STDOUT",
            "CALL p()",
            "DO $$ BEGIN END $$",
            "NOTIFY x",
            "EXECUTE prepared",
            "FETCH c",
            "",
        ):
            with self.subTest(text=text):
                self.assertRefused(text, 'statement')

    def test_two_statements_in_one_text(self):
        self.assertRefused("SELECT 1; SELECT 2", 'statement')

    def test_writes_hidden_in_a_reading_statement(self):
        for text in (
            "WITH w AS (UPDATE tc_one SET id = 1 RETURNING id) SELECT * FROM w",
            "WITH w AS (DELETE FROM tc_one RETURNING id) SELECT * FROM w",
            "WITH w AS (INSERT INTO tc_one VALUES (1) RETURNING id) SELECT * FROM w",
            "SELECT * INTO tc_new FROM tc_one",
        ):
            with self.subTest(text=text):
                self.assertRefused(text, 'writes or locks')

    def test_locks(self):
        for clause in (
            'FOR UPDATE',
            'FOR NO KEY UPDATE',
            'FOR SHARE',
            'FOR KEY SHARE',
            'FOR UPDATE NOWAIT',
            'for  update skip locked',
        ):
            with self.subTest(clause=clause):
                self.assertRefused(f"SELECT * FROM tc_one {clause}", 'writes or locks')

    def test_advisory_locks(self):
        self.assertRefused("SELECT pg_advisory_xact_lock(1)", '')
        self.assertRefused("SELECT pg_try_advisory_lock(1)", '')

    def test_sequences(self):
        self.assertRefused("SELECT last_value FROM tc_sequence", 'sequence')
        self.assertRefused("SELECT nextval('tc_sequence')", '')
        self.assertRefused("SELECT setval('x', 1)", 'volatile')

    def test_materialized_views(self):
        self.assertRefused("SELECT * FROM tc_matview", 'materialized view')

    def test_temporary_tables(self):
        self.assertRefused("SELECT * FROM tc_temporary", 'temporary table')

    def test_tables_of_other_schemas(self):
        self.assertRefused("SELECT * FROM tc_schema.tc_elsewhere", 'another schema')

    def test_tables_with_row_security(self):
        self.assertRefused("SELECT * FROM tc_secret", 'row security')

    def test_system_catalogues(self):
        for text in (
            "SELECT * FROM pg_class",
            "SELECT * FROM pg_catalog.pg_class",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM pg_stat_activity",
            'SELECT * FROM "pg_class"',
        ):
            with self.subTest(text=text):
                self.assertRefused(text, 'system catalogue')

    def test_views_on_system_catalogues(self):
        self.assertRefused("SELECT * FROM tc_catalogue_view", 'system catalogue')
        self.assertRefused("SELECT * FROM tc_schema_view", 'system catalogue')

    def test_views_on_views_on_system_catalogues(self):
        self.assertRefused("SELECT * FROM tc_on_catalogue_view", 'system catalogue')

    def test_views_with_volatile_functions(self):
        self.assertRefused("SELECT * FROM tc_random_view", 'volatile')

    def test_views_on_views_with_volatile_functions(self):
        self.assertRefused("SELECT * FROM tc_on_random_view", 'volatile')

    def test_functions_of_others_that_may_read_tables(self):
        self.assertRefused("SELECT tc_stable()", 'function tc_stable')
        self.assertRefused('SELECT "tc_stable"()', 'function tc_stable')
        self.assertRefused("SELECT tc_volatile()", 'tc_volatile')

    def test_views_on_functions_of_others(self):
        self.assertRefused("SELECT * FROM tc_function_view", 'function')

    def test_volatile_functions(self):
        for call in (
            'random()',
            'clock_timestamp()',
            'gen_random_uuid()',
            'timeofday()',
            "set_config('a.b', 'c', true)",
            'txid_current()',
        ):
            with self.subTest(call=call):
                self.assertRefused(f"SELECT {call}", 'volatile')

    def test_functions_that_look_at_the_session(self):
        self.assertRefused("SELECT current_setting('a.b', true)", 'volatile')
        self.assertRefused(
            "SELECT query_to_xml('SELECT * FROM tc_one', true, true, '')", 'volatile'
        )

    def test_quoting_that_hides_a_name(self):
        self.assertRefused('SELECT * FROM U&"tc\\005Fone"', 'system catalogue')

    # -- what is not known -------------------------------------------------------------

    def test_an_unknown_source_is_unknown(self):
        for text in (
            "SELECT * FROM tc_nonsense",
            "SELECT * FROM tc_one JOIN tc_nonsense ON true",
            'SELECT * FROM "tc_nonsense"',
        ):
            with self.subTest(text=text):
                self.assertIsNone(self.catalogue.reading(text))

    def test_a_savepoint_is_neutral(self):
        for text in ('SAVEPOINT "x"', 'RELEASE SAVEPOINT "x"'):
            self.assertEqual(self.catalogue.reading(text).relations, frozenset())

    def test_readings_are_remembered_within_bounds(self):
        for number in range(5000):
            self.catalogue.reading(f"SELECT {number} FROM tc_one")
        self.assertLessEqual(len(self.catalogue._readings), 4096)

    # -- functions in disguise -----------------------------------------------------------

    def test_a_function_without_a_call(self):
        self.assertRefused("SELECT o.tc_of FROM tc_one o", 'function tc_of')
        self.assertRefused("SELECT tc_stable/* here */()", 'function tc_stable')
        self.assertRefused("SELECT random -- here\n ()", 'volatile random')

    def test_an_operator_is_a_function(self):
        self.assertRefused("SELECT id @#@# 2 FROM tc_one", 'operator @#@#')
        self.assertRefused("SELECT * FROM tc_operator_view", 'view on an operator')

    def test_an_aggregate_is_its_functions(self):
        self.assertRefused("SELECT tc_sum(id) FROM tc_one", 'function tc_sum')
        self.assertReads("SELECT tc_harmless_sum(id) FROM tc_one", 'tc_one')

    def test_a_cast_is_a_function(self):
        self.assertRefused("SELECT id::tc_type FROM tc_one", 'cast tc_type')

    def test_a_crash_empties_an_unlogged_table(self):
        self.assertRefused("SELECT id FROM tc_unlogged", 'unlogged table')

    def test_now_as_a_text(self):
        self.assertReads("SELECT 1 FROM tc_two WHERE at < 'now'", 'tc_two', clock=True)

    def test_unknown_names_in_lists_and_parentheses(self):
        for source in (
            'tc_one, tc_nowhere',
            'tc_one AS o, tc_two t, "tc_nowhere"',
            '(tc_nowhere CROSS JOIN tc_one)',
            '( /* here */ tc_nowhere n), tc_one',
            'tc_one/**/,/**/public.tc_nowhere',
        ):
            with self.subTest(source):
                self.assertIsNone(self.catalogue.reading(f"SELECT 1 FROM {source}"))
        self.assertReads("SELECT 1 FROM (tc_one o CROSS JOIN tc_two t)", 'tc_one', 'tc_two')
        self.assertReads(
            "SELECT (SELECT max(id) FROM tc_two), value FROM tc_one", 'tc_one', 'tc_two'
        )
        self.assertReads("SELECT 1 FROM tc_one o ORDER BY value, id", 'tc_one')
        self.assertReads(
            "SELECT 1 FROM tc_one o, generate_series(1, 2) g, tc_two", 'tc_one', 'tc_two'
        )
