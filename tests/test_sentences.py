"""Sentences of services, in the reader's language."""

import copy
import pickle

from odoo.exceptions import UserError
from odoo.tests import TransactionCase, tagged

from ..models import plain_words
from ..services import event_templates, keys, options, redis_url
from ..services.sentences import Sentence


@tagged('post_install', '-at_install')
class TestSentences(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env['res.lang']._activate_lang('de_DE')
        cls.german = cls.env(context={'lang': 'de_DE'})

    def told(self, call, *args):
        """A refusal in English and in German."""
        with self.assertRaises(ValueError) as caught:
            call(*args)
        return str(caught.exception), plain_words.error(self.german, caught.exception)

    def test_refusals_are_told_in_the_readers_language(self):
        for call, *args in (
            (redis_url.check, 'http://x'),
            (redis_url.check, 'redis://x y'),
            (redis_url.check, 'redis://localhost:0/0'),
            (redis_url.check, 'redis://localhost/0?retries=1'),
            (options.check, 'l1_max_mb', 'much'),
            (options.check, 'audit_rate', '7'),
            (options.check, 'consistency', 'never'),
            (keys.validate_key, ''),
            (keys.validate_pattern, 'v1:[a'),
            (keys.validate_pattern, 'v1:[z-a]'),
            (event_templates.parse, '{'),
            (event_templates.parse, '*'),
        ):
            with self.subTest(call=call.__qualname__, args=args):
                english, german = self.told(call, *args)
                self.assertNotEqual(english, german)
                self.assertNotRegex(german, r'%\(|\b(must|the|of)\b')

    def test_values_stay_and_units_are_translated(self):
        english, german = self.told(options.check, 'redis_timeout_ms', '-1')
        self.assertRegex(english, r"^redis_timeout_ms must be between \d+ and \d+ milliseconds")
        self.assertRegex(german, r"^redis_timeout_ms .*\d+ .*\d+ Millisekunden.*'-1'")

    def test_a_per_cent_sign_is_one(self):
        for english in (
            self.told(redis_url.check, 'redis://x y')[0],
            self.told(redis_url.check, 'redis://x#y')[0],
            self.told(redis_url.check, 'redis://')[0],
        ):
            self.assertRegex(english, r' %[0-9A-F]{2}\b')

    def test_models_say_it(self):
        with self.assertRaises(UserError) as caught:
            self.german['cache.manager']._check_key(keys.validate_key, ' ')
        self.assertIn("Schlüssel", str(caught.exception))

    def test_where_it_is_set_is_told(self):
        place = options.describe_source('redis_url', 'environment')
        self.assertEqual(place, "environment variable TIERED_CACHE_REDIS_URL")
        self.assertIn("Umgebungsvariable", plain_words.error(self.german, place))

    def test_other_texts_stay_as_they_are(self):
        self.assertEqual(plain_words.error(self.german, ValueError('x')), 'x')
        self.assertEqual(plain_words.error(self.german, KeyError()), '')
        self.assertEqual(plain_words.error(self.german, ''), '')

    def test_a_sentence_is_a_text(self):
        sentence = Sentence("%(a)s of %(b)s", a=1, b=Sentence("two"))
        self.assertEqual(sentence, "1 of two")
        for again in (copy.copy(sentence), copy.deepcopy(sentence)):
            self.assertEqual((again, again.source), (sentence, sentence.source))
        self.assertEqual(pickle.loads(pickle.dumps(sentence)), sentence)
