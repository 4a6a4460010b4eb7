"""Everything that users read can be translated, and is, into three languages.

The one idea: the template is what Odoo exports now, and each language says all of it.

What may go wrong: a new text.  docs/developers.md says how the files are renewed.
"""

import io
import pathlib
import re

import polib

from odoo.tests import TransactionCase, tagged
from odoo.tools.translate import TranslationImporter, code_translations, trans_export

FOLDER = pathlib.Path(__file__).parent.parent / 'i18n'
LANGUAGES = {'fr': 'fr_FR', 'de': 'de_DE', 'es': 'es_ES'}
RENEW = "Renew i18n/ as docs/developers.md says."

_PLACEHOLDER = re.compile(r'%\(\w+\)[\w.]*?[sdf]|%s|\{\w+\}|</?\w[^>]*>')
"""What must stand in a translation as it stands in the text: values, names and tags."""


def held(text: str) -> list[str]:
    """What a translation must keep."""
    return sorted(_PLACEHOLDER.findall(text))


@tagged('post_install', '-at_install')
class TestTranslations(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.template = polib.pofile(FOLDER / 'tiered_cache.pot')
        cls.languages = {code: polib.pofile(FOLDER / f'{code}.po') for code in LANGUAGES}

    def test_the_template_is_what_odoo_exports(self):
        buffer = io.BytesIO()
        self.assertTrue(trans_export(False, ['tiered_cache'], buffer, 'po', self.env))
        exported = {entry.msgid for entry in polib.pofile(buffer.getvalue().decode())}
        known = {entry.msgid for entry in self.template}
        self.assertEqual(exported - known, set(), f"Texts that the template lacks. {RENEW}")
        self.assertEqual(known - exported, set(), f"Texts that nobody uses any more. {RENEW}")

    def test_every_language_says_everything(self):
        known = {entry.msgid for entry in self.template}
        for code, language in self.languages.items():
            said = {entry.msgid for entry in language if entry.msgstr and not entry.fuzzy}
            with self.subTest(language=code):
                self.assertEqual(known - said, set(), RENEW)
                self.assertEqual({entry.msgid for entry in language}, known, RENEW)

    def test_values_names_and_tags_stay(self):
        for code, language in self.languages.items():
            for entry in language:
                with self.subTest(language=code, text=entry.msgid):
                    self.assertEqual(held(entry.msgstr), held(entry.msgid))

    def test_they_load_without_a_warning(self):
        for code, lang in LANGUAGES.items():
            self.env['res.lang']._activate_lang(lang)
            with self.subTest(language=code), self.assertNoLogs('odoo', 'WARNING'):
                importer = TranslationImporter(self.env.cr)
                importer.load_file(str(FOLDER / f'{code}.po'), lang)
                importer.save(overwrite=True)

    def test_users_read_their_language(self):
        self.env['res.lang']._activate_lang('fr_FR')
        importer = TranslationImporter(self.env.cr)
        importer.load_file(str(FOLDER / 'fr.po'), 'fr_FR')
        importer.save(overwrite=True)
        self.env.invalidate_all()
        french = self.env(context={'lang': 'fr_FR'})
        self.assertEqual(french.ref('tiered_cache.cache_metric_action').name, "Chiffres")
        view = french['cache.rule'].get_view(view_type='form')['arch']
        self.assertIn("Comme dans les Paramètres", view)
        texts = code_translations.get_web_translations('tiered_cache', 'fr_FR')['messages']
        self.assertIn({'id': "Hit rate", 'string': "Taux de succès"}, texts)
        with self.assertRaisesRegex(Exception, "pas un événement"):
            french['cache.event.rule'].create({'event': 'nothing at all', 'names': 'x:y'})
