"""The description of the HTTP interface, in OpenAPI 3.1, for programs that generate clients.

The one idea: limits stand in it as the code has them, by name; a test asks every address as the
description allows and as it does not, and holds each answer against it.
"""

from __future__ import annotations

from . import batch_calls, endpoints, following

VERSION = '1'

_ERROR = {'$ref': '#/components/schemas/Error'}


def document(settings) -> dict:
    """:param settings: of this database: limits of a page and of a body"""
    return {
        'openapi': '3.1.0',
        'info': {
            'title': "Tiered Cache",
            'version': VERSION,
            'description': "Reads of Odoo for programs outside: many at a time, in one snapshot,"
            " with the rights of the API key's user, and 304 where nothing has changed.",
            'license': {'name': "LGPL-3.0", 'identifier': 'LGPL-3.0-only'},
        },
        'servers': [{'url': '/'}],
        'security': [{'key': []}],
        'paths': _paths(settings),
        'components': {
            'securitySchemes': {
                'key': {
                    'type': 'http',
                    'scheme': 'bearer',
                    'description': "An API key of a user: Preferences, Account Security.",
                }
            },
            'schemas': _schemas(),
            'headers': {
                'ETag': {
                    'description': "Send it as If-None-Match the next time. Missing where the"
                    " answer may be another one the next time.",
                    'schema': {'type': 'string', 'pattern': '^W/"[0-9a-f]{32}"$'},
                }
            },
        },
    }


def _paths(settings) -> dict:
    page = [_page(), _size(settings)]
    supplier, product = _id('supplier_id', "A partner."), _id('product_id', "A product.template.")
    listed = {'$ref': '#/components/schemas/Page'}
    record = {'$ref': '#/components/schemas/Record'}
    return {
        '/cache/1/batch': {'post': _batch()},
        '/cache/1/suppliers': {'get': _get('suppliers', "Suppliers, by id.", page, listed)},
        '/cache/1/suppliers/{supplier_id}': {
            'get': _get('supplier', "One supplier.", [supplier], record)
        },
        '/cache/1/suppliers/{supplier_id}/products': {
            'get': _get('supplierProducts', "What it sells.", [supplier, *page], listed)
        },
        '/cache/1/products': {
            'get': _get(
                'products',
                "Products, by id.",
                [
                    _query('supplier', "Of this supplier only.", _id_schema()),
                    _query('category', "Of this category and those below it.", _id_schema()),
                    _query('q', "In name or reference.", _search_schema()),
                    *page,
                ],
                listed,
            )
        },
        '/cache/1/products/{product_id}': {
            'get': _get('product', "One product.", [product], record)
        },
        '/cache/1/orders/{order_id}/status': {
            'get': _get(
                'orderStatus',
                "How far an order is.",
                [
                    _id('order_id', "A sale.order or a purchase.order."),
                    _query(
                        'kind',
                        "Needed where both apps are installed.",
                        {'enum': list(endpoints.ORDERS)},
                    ),
                ],
                record,
            )
        },
        '/cache/1/changes': {'get': _changes()},
        '/cache/1/health': {'get': _health()},
        '/cache/1/metrics': {'get': _metrics()},
        '/cache/1/openapi.json': {
            'get': {
                'operationId': 'openapi',
                'summary': "This document.",
                'security': [{}, {'key': []}],
                'responses': {
                    '200': _json("This document.", {'type': 'object'}),
                    '401': _json("The key is not valid.", _ERROR),
                },
            }
        },
    }


# -- operations ------------------------------------------------------------------------


def _batch() -> dict:
    return {
        'operationId': 'batch',
        'summary': "Many reads in one snapshot.",
        'description': "Answers come in the order of the calls, each with its result or its own"
        " error. The status is 200 as soon as one call has a result; otherwise that of the errors,"
        " or 400 if they differ. Nothing is changed by it.",
        'parameters': [_if_none_match()],
        'requestBody': {
            'required': True,
            'content': {'application/json': {'schema': {'$ref': '#/components/schemas/Batch'}}},
        },
        'responses': {
            '200': _json("Results.", {'$ref': '#/components/schemas/Results'}, etag=True),
            '304': _not_modified(),
            **{
                code: _json(
                    text, {'anyOf': [{'$ref': '#/components/schemas/Results'}, _ERROR]}, etag=True
                )
                for code, text in (
                    ('400', "It is no batch, or no call could be made."),
                    ('403', "The user may read nothing of it."),
                    ('404', "Nothing of it exists."),
                    ('413', "The body, or every answer, is too large."),
                    ('429', "The time of a request was over before the first result."),
                    ('500', "The server could make none of the calls."),
                )
            },
            '401': _json("No valid API key.", _ERROR),
            '415': _json("The body is not sent as JSON.", _ERROR),
        },
    }


def _get(name: str, summary: str, parameters: list, schema: dict) -> dict:
    return {
        'operationId': name,
        'summary': summary,
        'parameters': [*parameters, _if_none_match()],
        'responses': {
            '200': _json(summary, schema, etag=True),
            '304': _not_modified(),
            **_errors(),
        },
    }


def _changes() -> dict:
    return {
        'operationId': 'changes',
        'summary': "What has changed since.",
        'parameters': [
            _query(
                'models',
                f"At most {following.MAX_MODELS} models, with commas; ids follow a model with"
                f" colons, at most {following.MAX_IDS} in all: res.country,res.partner:7:8",
                {
                    'type': 'string',
                    'minLength': 1,
                    'pattern': r'^[a-z_.]+(:[1-9][0-9]{0,8})*(,[a-z_.]+(:[1-9][0-9]{0,8})*)*$',
                },
                required=True,
            ),
            _query(
                'since',
                "The cursor of an earlier answer; left out to begin.",
                {'type': 'string', 'pattern': '^[A-Za-z0-9_-]*$'},
            ),
        ],
        'responses': {
            '200': _json("What has changed.", {'$ref': '#/components/schemas/Changes'}),
            **_errors(),
        },
    }


def _health() -> dict:
    schema = {'$ref': '#/components/schemas/Health'}
    return {
        'operationId': 'health',
        'summary': "For load balancers; with the key of a Cache User there are details.",
        'security': [{}, {'key': []}],
        'responses': {
            '200': _json("This process does its work.", schema),
            '401': _json("The key is not valid.", _ERROR),
            '403': _json("The key is of somebody else.", _ERROR),
            '503': _json("It does not.", schema),
        },
    }


def _metrics() -> dict:
    return {
        'operationId': 'metrics',
        'summary': "Figures for Prometheus, for Cache Users and for allowed addresses.",
        'security': [{}, {'key': []}],
        'responses': {
            '200': {
                'description': "Figures in text format 0.0.4.",
                'content': {'text/plain': {'schema': {'type': 'string'}}},
            },
            '401': _json("Neither a valid key nor an allowed address.", _ERROR),
            '403': _json("The key is of somebody else.", _ERROR),
        },
    }


# -- parts -----------------------------------------------------------------------------


def _json(description: str, schema: dict, etag: bool = False) -> dict:
    response = {'description': description, 'content': {'application/json': {'schema': schema}}}
    if etag:
        response['headers'] = {'ETag': {'$ref': '#/components/headers/ETag'}}
    return response


def _not_modified() -> dict:
    return {
        'description': "Nothing has changed.",
        'headers': {'ETag': {'$ref': '#/components/headers/ETag'}},
    }


def _errors() -> dict:
    texts = {
        '400': "An argument is wrong.",
        '401': "No valid API key.",
        '403': "The user may not read it.",
        '404': "The app is not installed, or there is nothing that the user may see.",
        '429': "It took longer than a request may take.",
        '500': "The server could not answer.",
    }
    return {code: _json(text, _ERROR) for code, text in texts.items()}


def _id_schema() -> dict:
    return {'type': 'integer', 'minimum': 1, 'maximum': batch_calls.MAX_ID}


def _search_schema() -> dict:
    return {'type': 'string', 'maxLength': endpoints.MAX_QUERY, 'pattern': '^[^\\x00]*$'}


def _id(name: str, description: str) -> dict:
    return {
        'name': name,
        'in': 'path',
        'required': True,
        'description': description,
        'schema': _id_schema(),
    }


def _query(name: str, description: str, schema: dict, required: bool = False) -> dict:
    return {
        'name': name,
        'in': 'query',
        'required': required,
        'description': description,
        'schema': schema,
    }


def _page() -> dict:
    return _query(
        'page',
        "What \"next\" of another page says: whoever follows it sees every row once. Or a number.",
        {
            'anyOf': [
                {'type': 'integer', 'minimum': 1, 'maximum': endpoints.MAX_PAGE},
                {'type': 'string', 'pattern': '^after-[1-9][0-9]{0,8}$'},
            ]
        },
    )


def _size(settings) -> dict:
    schema = {'type': 'integer', 'minimum': 1, 'maximum': settings.api_page_size}
    return _query('size', "Rows on a page.", schema)


def _if_none_match() -> dict:
    return {
        'name': 'If-None-Match',
        'in': 'header',
        'description': "The ETag of the answer that is there already.",
        'schema': {'type': 'string', 'pattern': '^W/"[0-9a-f]{32}"$'},
    }


def _schemas() -> dict:
    names = {
        'type': 'array',
        'maxItems': batch_calls.MAX_FIELDS,
        'items': {'type': 'string', 'maxLength': batch_calls.MAX_TEXT},
    }
    types = {
        'fields': names,
        'groupby': names,
        'aggregates': names,
        'domain': {'type': 'array', 'description': "A domain as Odoo has them, in JSON."},
        'having': {'type': 'array'},
        'limit': {'type': 'integer', 'minimum': 1, 'maximum': batch_calls.MAX_IDS},
        'offset': {'type': 'integer', 'minimum': 0, 'maximum': batch_calls.MAX_ID},
        'load': {'enum': ['_classic_read', '', False]},
    }
    text = {'type': 'string', 'maxLength': batch_calls.MAX_TEXT}
    calls = [
        _call(method, {name: types.get(name, text) for name in arguments})
        for method, arguments in batch_calls.METHODS.items()
    ]
    problem = {
        'type': 'object',
        'required': ['status', 'type', 'message'],
        'properties': {
            'status': {'type': 'integer', 'minimum': 400, 'maximum': 599},
            'type': {'type': 'string'},
            'message': {'type': 'string', 'minLength': 1},
        },
    }
    return {
        'Batch': {
            'type': 'object',
            'required': ['calls'],
            'additionalProperties': False,
            'properties': {
                'calls': {
                    'type': 'array',
                    'minItems': 1,
                    'maxItems': batch_calls.MAX_CALLS,
                    'items': {'anyOf': calls},
                }
            },
        },
        'Problem': problem,
        'Error': {
            'type': 'object',
            'required': ['error'],
            'properties': {'error': {'$ref': '#/components/schemas/Problem'}},
        },
        'Results': {
            'type': 'object',
            'required': ['results'],
            'properties': {
                'results': {
                    'type': 'array',
                    'items': {
                        'oneOf': [
                            {'type': 'object', 'required': ['result']},
                            {'$ref': '#/components/schemas/Error'},
                        ]
                    },
                }
            },
        },
        'Record': {
            'type': 'object',
            'required': ['id'],
            'properties': {'id': _id_schema()},
        },
        'Page': {
            'type': 'object',
            'required': ['items', 'next'],
            'properties': {
                'items': {'type': 'array', 'items': {'$ref': '#/components/schemas/Record'}},
                'next': {'type': ['string', 'null']},
            },
        },
        'Changes': {
            'type': 'object',
            'required': ['cursor', 'all', 'changed'],
            'properties': {
                'cursor': {'type': 'string'},
                'all': {'type': 'boolean'},
                'changed': {
                    'type': 'object',
                    'additionalProperties': {
                        'anyOf': [
                            {'const': True},
                            {
                                'type': 'object',
                                'required': ['ids', 'gone'],
                                'properties': {
                                    'ids': {'type': 'array', 'items': _id_schema()},
                                    'gone': {'type': 'array', 'items': _id_schema()},
                                },
                            },
                        ]
                    },
                },
            },
        },
        'Health': {
            'type': 'object',
            'required': ['status'],
            'properties': {'status': {'enum': ['ok', 'degraded', 'off', 'failed']}},
        },
    }


def _call(method: str, arguments: dict) -> dict:
    properties = {
        'model': {'type': 'string', 'minLength': 1, 'maxLength': 200},
        'method': {'const': method},
        'arguments': {
            'type': 'object',
            'additionalProperties': False,
            'properties': arguments,
        },
        'context': {'type': 'object', 'description': "As in /json/2: the whole context."},
    }
    required = ['model', 'method']
    if method == 'read':
        ids = {'type': 'array', 'maxItems': batch_calls.MAX_IDS, 'items': _id_schema()}
        properties['ids'] = ids
        required.append('ids')
    return {
        'type': 'object',
        'required': required,
        'additionalProperties': False,
        'properties': properties,
    }
