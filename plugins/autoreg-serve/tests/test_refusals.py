"""Bodies and requests at fault: each is answered with a status of 4xx and a sentence, and the service goes on."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
GZIP = {"Content-Encoding": "gzip"}
ROW: dict[str, Any] = {
    "area": 50.5, "rooms": 3, "zip code": "7", "garden": True, "sold": "2024-02-01", "weight": "2 kg",
}  # fmt: skip
HEADER = "area,rooms,zip code,garden,sold,weight\n"


def with_cell(name: str, cell: str) -> str:
    """A row whose one cell is JSON as it stands."""
    return json.dumps({"rows": [{**ROW, name: "HERE"}]}).replace('"HERE"', cell)


def without(name: str) -> str:
    return json.dumps({"rows": [{key: cell for key, cell in ROW.items() if key != name}]})


MALFORMED: list[tuple[str, str | bytes, dict[str, str], int, str]] = [
    ("nothing", "", JSON, 400, "the body is empty: send"),
    ("blanks", " \n ", CSV, 400, "the body is empty: send"),
    ("half an object", '{"rows": [', JSON, 400, "the body is no JSON: Expecting value, line 1"),
    ("a comma too much", '{"rows": [{"area": 1},]}', JSON, 400, "the body is no JSON"),
    ("single quotes", "{'rows': []}", JSON, 400, "the body is no JSON: Expecting property name"),
    ("two values", '{"rows": []} {"rows": []}', JSON, 400, "the body is no JSON: Extra data"),
    ("no UTF-8", b'{"rows": [{"area": "\xff"}]}', JSON, 400, "no UTF-8 text at byte 20"),
    ("half of UTF-16", b"\xff\xfe{", JSON, 400, "the body is no"),
    ("a key twice", '{"rows": [{"area": 1, "area": 2}]}', JSON, 400, "the key 'area' stands twice"),
    ("nested deeply", '{"rows": ' + "[" * 100_000 + "]" * 100_000 + "}", JSON, 400, "nested too deeply"),
    ("a number of 10000 digits", with_cell("area", "1" * 10_000), JSON, 400, "too many digits"),
    ("a number as body", "3", JSON, 422, "the body has to be an object of the form"),
    ("null as body", "null", JSON, 422, "the body has to be an object of the form"),
    ("a bare list", json.dumps([ROW]), JSON, 422, "the body has to be an object of the form"),
    ("both forms", json.dumps({"rows": [ROW], "columns": {}}), JSON, 422, "the body has to be an object of the form"),
    ("another key", json.dumps({"data": [ROW]}), JSON, 422, "the body has to be an object of the form"),
    ("rows that are an object", json.dumps({"rows": ROW}), JSON, 422, "'rows' is an object, but has to be a list"),
    ("rows that are null", '{"rows": null}', JSON, 422, "'rows' is null, but"),
    ("no rows", '{"rows": []}', JSON, 422, "the table has no rows"),
    ("a row that is a list", '{"rows": [[1, 2]]}', JSON, 422, "row 1 is a list, but has to be an object"),
    ("a row that is a text", json.dumps({"rows": [ROW, "x"]}), JSON, 422, "row 2 is a text, but"),
    ("an empty row", '{"rows": [{}]}', JSON, 422, "6 columns missing that the model was fitted on"),
    ("a cell that is a list", with_cell("area", "[1]"), JSON, 422, "row 1, column 'area' is a list, but"),
    ("a cell that is an object", with_cell("zip code", "{}"), JSON, 422, "row 1, column 'zip code' is an object, but"),
    ("text for a number", with_cell("area", '"large"'), JSON, 422,
     "column 'area' held numbers when the model was fitted, row 1 now has 'large'. Correct it, or leave it empty"),
    ("text for true and false", with_cell("garden", '"maybe"'), JSON, 422, "column 'garden' held true and false"),
    ("a number for true and false", with_cell("garden", "3"), JSON, 422, "column 'garden' held true and false"),
    ("no date", with_cell("sold", '"yesterday"'), JSON, 422, "column 'sold' held dates when"),
    ("a number for a date", with_cell("sold", "12.5"), JSON, 422, "column 'sold' held dates when"),
    ("half of a surrogate pair", with_cell("sold", '"\\ud800"'), JSON, 400, "half of a surrogate pair"),
    ("half of a surrogate pair in a name", '{"rows": [{"\\uDFFF": 1}]}', JSON, 400, "half of a surrogate pair"),
    ("half of a surrogate pair as bytes", b'{"rows": [{"\xed\xa0\x80": 1}]}', JSON, 400, "no UTF-8 text at byte 12"),
    ("a column missing", without("area"), JSON, 422, "column missing that the model was fitted on: 'area'"),
    ("a column misspelt", without("area").replace("rooms", "area ", 1), JSON, 422, "missing that the model was fitted"),
    ("columns that are a list", '{"columns": []}', JSON, 422, "'columns' is a list, but has to be an object"),
    ("columns without lists", json.dumps({"columns": ROW}), JSON, 422, "column 'area' is a number, but has to be"),
    ("no columns", '{"columns": {}}', JSON, 422, "the table has no rows"),
    ("columns of two lengths", '{"columns": {"area": [1], "rooms": [1, 2]}}', JSON, 422,
     "column 'area' has 1 cells and column 'rooms' has 2"),
    ("columns without a cell", json.dumps({"columns": {name: [] for name in ROW}}), JSON, 422, "the table has no rows"),
    ("200000 unknown columns", json.dumps({"rows": [{str(i): 1 for i in range(200_000)}]}), JSON, 422,
     "6 columns missing"),
    ("CSV said to be JSON", HEADER + "1,2,3,true,2024-01-01,1 kg\n", JSON, 400, "the body is no JSON"),
    ("JSON said to be CSV", json.dumps({"rows": [ROW]}), CSV, 400, "the table has no rows"),
    ("CSV without rows", HEADER, CSV, 400, "the table has no rows"),
    ("CSV with too many fields", HEADER + "1,2,3,true,2024-01-01,1 kg,9\n", CSV, 400,
     "the table, line 2: 7 fields, but there are 6 column names. Quote a text that holds the separator, or give the "
     "query parameter sep"),
    ("CSV with an open quote", HEADER + '"1,2,3,true,2024-01-01,1 kg\n', CSV, 400, "a quote (\") is opened there"),
    ("CSV with a NUL", HEADER + "1,2,\0,true,2024-01-01,1 kg\n", CSV, 400, "a NUL character"),
    ("CSV that is no UTF-8", HEADER.encode() + b"1,2,\xff,true,2024-01-01,1 kg\n", CSV, 400,
     "is no UTF-8 text. Give its encoding, for instance a charset in Content-Type"),
    ("CSV with a name twice", "area,area\n1,2\n", CSV, 400, "1 column name stands twice or more: 'area'"),
    ("CSV with text for a number", HEADER + "big,2,3,true,2024-01-01,1 kg\n", CSV, 422,
     "row 1 now has 'big'. Correct it, or leave it empty (the query parameter na_values names texts"),
    ("CSV with a million columns", "," * 1_000_000 + "\n1\n", CSV, 400, "1000001 columns, and the limit is 1000"),
    ("CSV with a long name", f'"{"a" * 200_000}",b\n1,2\n', CSV, 400, "the column names cannot be read"),
    ("CSV with too many rows", HEADER + "1\n" * 200_000, CSV, 413, "the body has 200000 rows, and the limit is 100000"),
    ("JSON with too many rows", json.dumps({"rows": [{}] * 100_001}), JSON, 413, "100001 rows, and the limit is"),
    ("CSV in a charset that is none", HEADER + "1\n", {"Content-Type": "text/csv; charset=klingon"}, 400,
     "text encoding 'klingon' is not known"),
    ("CSV in a charset that takes the square of its length", b"a" * 200_000 + b"-" + b"a" * 200_000,
     {"Content-Type": "text/csv; charset=punycode"}, 415, "text in punycode cannot be read: send UTF-8"),
    ("CSV in a charset that hides its lines", HEADER.replace("\n", "\\n").encode(),
     {"Content-Type": "text/csv; charset=unicode_escape"}, 415, "cannot be read: send UTF-8"),
    ("CSV of rows that leave out nearly all", ",".join(f"c{i}" for i in range(900)) + "\n" + "1\n" * 900, CSV, 413,
     "the body has 900 rows of 900 columns, most of them left out: send whole rows"),
    ("JSON in another charset", "{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "send UTF-8"),
    ("no type", "{}", {}, 415, "the request does not say what its body is"),
    ("a form", "area=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "cannot be read: send"),
    ("a type that is none", "{}", {"Content-Type": ";;;\u00e9"}, 415, "cannot be read: send"),
    ("parquet", b"PAR1", {"Content-Type": "application/vnd.apache.parquet"}, 415, "cannot be read: send"),
    ("parquet said to be CSV", b"PAR1aaaaPAR1", CSV, 400, "the table holds parquet, not csv"),
    ("gzip that is not said", gzip.compress(b"a,b\n1,2\n"), CSV, 400, "is gzip: say so with the header"),
    ("gzip that is none", "a,b\n1,2\n", {**CSV, **GZIP}, 400, "said to be gzip, but is damaged"),
    ("gzip cut off", gzip.compress(b"a,b\n1,2\n" * 100)[:-9], {**CSV, **GZIP}, 400, "gzip that is cut off"),
    ("gzip in gzip", gzip.compress(gzip.compress(b"a,b\n1,2\n")), {**CSV, **GZIP}, 400, "was compressed twice"),
    ("gzip in many parts", gzip.compress(b"") * 2000, {**CSV, **GZIP}, 400, "gzip of more than 1000 parts"),
    ("a gzip bomb", gzip.compress(b"0" * 50_000_000), {**CSV, **GZIP}, 413, "larger than 10000000 bytes when"),
    ("brotli", b"\x0b\x02\x80", {**JSON, "Content-Encoding": "br"}, 415, "Content-Encoding br cannot be read"),
    ("too large a body", "1" * 10_000_001, CSV, 413, "the body is larger than 10000000 bytes"),
    ("an answer that nobody has", json.dumps({"rows": [ROW]}), {**JSON, "Accept": "image/png"}, 406, "answers are"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status", "part"), [pytest.param(*case[1:], id=case[0]) for case in MALFORMED]
)
def test_a_malformed_body_is_answered_with_a_sentence(
    client: httpx.Client, body: str | bytes, headers: dict[str, str], status: int, part: str
) -> None:
    sent = {name: value.encode("utf-8") for name, value in headers.items()}
    content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    response = client.post("/predict", content=content, headers=list(sent.items()))
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    (sentence,) = response.json().values()
    assert part in sentence
    assert "\n" not in sentence
    assert len(sentence) <= 1000
    assert not re.search(r"Traceback|File \"|site-packages|--\w", sentence)


def test_there_are_enough_of_them() -> None:
    assert len(MALFORMED) >= 30


def test_a_body_without_a_known_length_is_bounded_too(client: httpx.Client) -> None:
    response = client.post("/predict", content=(b"1" * 1_000_000 for _ in range(11)), headers=CSV)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("interval=0.9", "this model predicts no intervals: ask without the query parameter interval"),
        ("interval=high", "interval 'high' is no level: give a number between 0 and 1, such as 0.9"),
        ("interval=1", "interval '1' is no level"),
        ("interval=nan", "interval 'nan' is no level"),
        ("intervall=0.9", "no query parameter 'intervall' is known: interval, sep"),
        ("sep=;&sep=,", "the query parameter sep stands twice"),
        ("sep=;", "the query parameter sep is about CSV, but the body is JSON"),
    ],
)
def test_a_query_parameter_at_fault(client: httpx.Client, query: str, part: str) -> None:
    response = client.post(f"/predict?{query}", json={"rows": [ROW]})
    assert (response.status_code, part in response.json()["detail"]) == (400, True), response.text


def test_a_separator_that_is_none(client: httpx.Client) -> None:
    response = client.post("/predict?sep=abc", content=HEADER + "1\n", headers=CSV)
    assert response.status_code == 400
    assert response.json()["detail"].startswith("sep 'abc': give one ASCII character")


@pytest.mark.parametrize(
    ("method", "place", "status", "sentence"),
    [
        ("GET", "/predict", 405, "this address takes POST, not GET"),
        ("DELETE", "/model", 405, "this address takes GET, not DELETE"),
        ("GET", "/predict/me", 404, "there is nothing at this address: /docs tells what there is"),
        (
            "GET",
            "/static-offline-docs/../../secret",
            404,
            "there is nothing at this address: /docs tells what there is",
        ),
    ],
)
def test_an_address_at_fault(client: httpx.Client, method: str, place: str, status: int, sentence: str) -> None:
    response = client.request(method, place)
    assert (response.status_code, response.json()) == (status, {"detail": sentence})


def test_the_nearest_name_is_offered(client: httpx.Client) -> None:
    body = json.dumps({"rows": [ROW]}).replace('"rooms"', '"room"')
    sentence = client.post("/predict", content=body, headers=JSON).json()["detail"]
    assert sentence == "column missing that the model was fitted on: 'rooms'; the table has 'room' for 'rooms': rename?"


def test_numbers_written_as_text_are_read_as_from_csv(client: httpx.Client, model: Any) -> None:
    answers = [client.post("/predict", json={"rows": [{**ROW, "area": cell}]}).json() for cell in ("50.5", 50.5)]
    assert answers[0] == answers[1]
    assert np.array_equal([answers[0]["predictions"][0]["price"]], model.predict(pd.DataFrame([ROW])))


def test_no_http_at_all(service: Any) -> None:
    import socket

    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
