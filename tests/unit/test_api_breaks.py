"""The guard of the API's description sees each kind of break, and lets additions pass."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.breaks import breaks

OLD: dict[str, Any] = {
    "paths": {
        "/things": {
            "get": {
                "operationId": "listThings",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100}},
                    {"$ref": "#/components/parameters/Seller"},
                ],
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Things"}}
                        }
                    }
                },
            },
            "post": {
                "operationId": "createThing",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}
                    },
                },
                "responses": {
                    "201": {
                        "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}
                        },
                    },
                    "409": {"$ref": "#/components/responses/Taken"},
                },
            },
        }
    },
    "components": {
        "parameters": {
            "Seller": {"name": "X-Seller-Id", "in": "header", "schema": {"type": "string"}}
        },
        "headers": {"ETag": {"required": True, "schema": {"type": "string"}}},
        "responses": {
            "Taken": {"content": {"application/problem+json": {"schema": {"enum": ["a"]}}}}
        },
        "schemas": {
            "NewThing": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 200},
                    "size": {"type": ["integer", "null"], "minimum": 0},
                    "status": {"enum": ["draft", "active"]},
                    "tags": {"type": "array", "items": {"type": "string", "pattern": "^a"}},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
            "Thing": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "status": {"enum": ["draft", "active"]},
                    "size": {"type": "integer"},
                    "parent": {"$ref": "#/components/schemas/Thing"},
                },
                "required": ["id", "status"],
            },
            "Things": {
                "type": "object",
                "properties": {
                    "data": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
                },
                "required": ["data"],
            },
        },
    },
}


def _things(document: dict[str, Any]) -> Any:
    return document["paths"]["/things"]


def _schema(document: dict[str, Any], name: str) -> Any:
    return document["components"]["schemas"][name]


def _members(document: dict[str, Any], name: str) -> Any:
    return _schema(document, name)["properties"]


Change = Callable[[dict[str, Any]], Any]

BREAKS: dict[str, Change] = {
    "GET /things: is gone": lambda d: _things(d).pop("get"),
    "POST /things: operationId is makeThing": lambda d: _things(d)["post"].update(
        operationId="makeThing"
    ),
    "GET /things: query limit: is gone": lambda d: _things(d)["get"]["parameters"].pop(0),
    "GET /things: header X-Seller-Id: is required now": lambda d: d["components"]["parameters"][
        "Seller"
    ].update(required=True),
    "GET /things: query q: is required now": lambda d: _things(d)["get"]["parameters"].append(
        {"name": "q", "in": "query", "required": True, "schema": {}}
    ),
    "GET /things: query limit: maximum is 50": lambda d: _things(d)["get"]["parameters"][0][
        "schema"
    ].update(maximum=50),
    "POST /things: body: application/json is not taken": lambda d: _things(d)["post"][
        "requestBody"
    ]["content"].clear(),
    "POST /things: body: size: is required now": lambda d: _schema(d, "NewThing")[
        "required"
    ].append("size"),
    "POST /things: body: size: is not taken any more": lambda d: _members(d, "NewThing").pop(
        "size"
    ),
    "POST /things: body: size is not of type null": lambda d: _members(d, "NewThing")[
        "size"
    ].update(type="integer"),
    "POST /things: body: name: maxLength is 100": lambda d: _members(d, "NewThing")["name"].update(
        maxLength=100
    ),
    "POST /things: body: name: minLength is 2": lambda d: _members(d, "NewThing")["name"].update(
        minLength=2
    ),
    "POST /things: body: name: pattern is ^x": lambda d: _members(d, "NewThing")["name"].update(
        pattern="^x"
    ),
    "POST /things: body: tags: items: pattern is ^b": lambda d: _members(d, "NewThing")["tags"][
        "items"
    ].update(pattern="^b"),
    "POST /things: body: status does not take draft": lambda d: _members(d, "NewThing")[
        "status"
    ].update(enum=["active"]),
    "POST /things: 201: is gone": lambda d: _things(d)["post"]["responses"].pop("201"),
    "POST /things: 409: is gone": lambda d: _things(d)["post"]["responses"].pop("409"),
    "POST /things: 201: header ETag: is not promised": lambda d: d["components"]["headers"][
        "ETag"
    ].update(required=False),
    "POST /things: 201: application/json is not given": lambda d: _things(d)["post"]["responses"][
        "201"
    ]["content"].clear(),
    "POST /things: 201: size: is gone": lambda d: _members(d, "Thing").pop("size"),
    "GET /things: 200: data: items: size: is gone": lambda d: _members(d, "Thing").pop("size"),
    "POST /things: 201: status: is required now": lambda d: _schema(d, "Thing")["required"].remove(
        "status"
    ),
    "POST /things: 201: status does not take gone": lambda d: _members(d, "Thing")["status"][
        "enum"
    ].append("gone"),
    "POST /things: 201: size is not of type null": lambda d: _members(d, "Thing")["size"].update(
        type=["integer", "null"]
    ),
}

ADDITIONS: dict[str, Change] = {
    "a path": lambda d: d["paths"].update({"/more": {}}),
    "a method": lambda d: _things(d).update(delete={"operationId": "x", "responses": {}}),
    "a parameter": lambda d: _things(d)["get"]["parameters"].append(
        {"name": "q", "in": "query", "schema": {"type": "string"}}
    ),
    "a member of a body": lambda d: _members(d, "NewThing").update(colour={"type": "string"}),
    "a wider bound": lambda d: _members(d, "NewThing")["name"].update(maxLength=300),
    "a longer enum of a body": lambda d: _members(d, "NewThing")["status"]["enum"].append(
        "archived"
    ),
    "a member no longer required": lambda d: _schema(d, "NewThing")["required"].clear(),
    "another media type": lambda d: _things(d)["post"]["requestBody"]["content"].update(
        {"text/csv": {"schema": {}}}
    ),
    "a member of an answer": lambda d: _members(d, "Thing").update(colour={"type": "string"}),
    "a promise of an answer": lambda d: _schema(d, "Thing")["required"].append("size"),
    "a narrower answer": lambda d: _members(d, "Thing")["size"].update(minimum=0),
    "a header": lambda d: _things(d)["post"]["responses"]["201"]["headers"].update(
        Location={"schema": {}}
    ),
    "a status": lambda d: _things(d)["post"]["responses"].update({"429": {}}),
    "a code of a problem": lambda d: d["components"]["responses"]["Taken"]["content"].update(
        {"application/problem+json": {"schema": {"enum": ["a", "b"]}}}
    ),
    "a description": lambda d: _members(d, "Thing")["size"].update(description="How large."),
}


def test_a_document_does_not_break_itself() -> None:
    assert breaks(OLD, copy.deepcopy(OLD)) == []


@pytest.mark.parametrize("expected", BREAKS)
def test_a_break_is_named(expected: str) -> None:
    new = copy.deepcopy(OLD)
    BREAKS[expected](new)

    assert any(line.startswith(expected) for line in breaks(OLD, new)), breaks(OLD, new)


@pytest.mark.parametrize("what", ADDITIONS)
def test_an_addition_is_no_break(what: str) -> None:
    new = copy.deepcopy(OLD)
    ADDITIONS[what](new)

    assert new != OLD
    assert breaks(OLD, new) == []
