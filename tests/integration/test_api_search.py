"""Search: what is found, in which order, and that its pages hold still."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents

from shopstream_api.catalog import ranking
from shopstream_api.catalog.search import WORDS_MAX


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components) as app:
        yield app


@pytest.fixture
def seller() -> str:
    return f"s-{uuid.uuid4().hex}"


def _page(api: InProcess, **parameters: object) -> dict[str, Any]:
    answer = api.get("/products", params={name: str(it) for name, it in parameters.items()})
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def _names(api: InProcess, **parameters: object) -> list[str]:
    return [row["name"] for row in _page(api, **parameters)["data"]]


def test_the_part_of_a_product_that_matches_orders_the_answer(api: InProcess, seller: str) -> None:
    api.product(sellerId=seller, name="in description", description="a quince")
    api.product(sellerId=seller, name="in category", category="Quince")
    api.product(sellerId=seller, name="in tags", tags=["quince"])
    api.product(sellerId=seller, name="quince")
    api.product(sellerId=seller, name="quincentennial")
    api.product(sellerId=seller, name="without")
    found = _names(api, sellerId=seller, q="QUINCE")
    # A word that only begins so comes after all that have the word, wherever they have it.
    assert found == ["quince", "in tags", "in category", "in description", "quincentennial"]


def test_equal_matches_are_shown_newest_first(api: InProcess, seller: str) -> None:
    for number in range(3):
        later(api, 1)
        api.product(sellerId=seller, name=f"plum {number}")
    assert _names(api, sellerId=seller, q="plum") == ["plum 2", "plum 1", "plum 0"]


@pytest.mark.parametrize(
    "written",
    ["keybord", "keyboadr", "kezboard", "keyyboard", "eyboard", "wireles keybaord", "kyeboard"],
)
def test_a_mistyped_word_finds_what_was_meant(api: InProcess, seller: str, written: str) -> None:
    api.product(sellerId=seller, name="Wireless keyboard")
    api.product(sellerId=seller, name="Blue shirt")
    assert _names(api, sellerId=seller, q=written) == ["Wireless keyboard"]


def test_two_swapped_letters_of_a_short_word_are_forgiven(api: InProcess, seller: str) -> None:
    api.product(sellerId=seller, name="Xylo shirt")
    assert _names(api, sellerId=seller, q="shrit") == ["Xylo shirt"]


def test_an_article_number_is_taken_as_it_is(api: InProcess, seller: str) -> None:
    api.product(sellerId=seller, name="first", sku="AB-10017")
    assert _names(api, sellerId=seller, q="10017") == ["first"]
    assert _names(api, sellerId=seller, q="ab-100") == ["first"]
    assert _names(api, sellerId=seller, q="10071") == []


def test_a_beginning_that_only_a_digit_follows_is_no_typing_error(
    api: InProcess, seller: str
) -> None:
    api.product(sellerId=seller, name="Thunderbolt4")
    api.product(sellerId=seller, name="Thunderbalt")
    assert _names(api, sellerId=seller, q="thunderbolt") == ["Thunderbolt4"]


@pytest.mark.parametrize(
    ("word", "longer"),
    [("quilt", "quilts"), ("bonnet", "bonnet9"), ("teapot", "teapot" * 9), ("ocarin", "ocarinó")],
)
def test_a_known_word_finds_longer_ones_too(
    api: InProcess, seller: str, word: str, longer: str
) -> None:
    api.product(sellerId=seller, name=word)
    assert _names(api, sellerId=seller, q=word) == [word]
    later(api, 1)
    api.product(sellerId=seller, name=longer)
    assert _names(api, sellerId=seller, q=word) == [word, longer]


@pytest.mark.parametrize("few", [0, 4, 1_000])
def test_pages_of_what_was_meant_are_the_same_whatever_way_they_are_read(
    api: InProcess, seller: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "WINDOW", 3)
    monkeypatch.setattr(ranking, "FEW_MAX", few)
    for number in range(7):
        later(api, 1)
        api.product(sellerId=seller, name=f"Pomegranate {number}")
    wanted = {"sellerId": seller, "q": "pomegranaet", "limit": 2}
    pages = [_page(api, **wanted)]
    while pages[-1]["hasMore"]:
        pages.append(_page(api, **wanted, cursor=pages[-1]["nextCursor"]))
    names = [row["name"] for page in pages for row in page["data"]]
    assert names == [f"Pomegranate {number}" for number in range(6, -1, -1)]
    for page in pages[-2::-1]:
        pages[-1] = _page(api, **wanted, cursor=pages[-1]["prevCursor"])
        assert pages[-1]["data"] == page["data"]


def test_every_word_must_be_found(api: InProcess, seller: str) -> None:
    api.product(sellerId=seller, name="Red mug", description="of clay")
    assert _names(api, sellerId=seller, q="clay red") == ["Red mug"]
    assert _names(api, sellerId=seller, q="red zzyzzx") == []


def test_a_change_of_words_is_found_at_once_and_a_deleted_product_never(
    api: InProcess, seller: str
) -> None:
    product = api.product(sellerId=seller, name="Grapefruit")
    url = f"/products/{product['id']}"
    assert api.request("PATCH", url, json={"name": "Tangerine"}).status_code == 200
    assert _names(api, sellerId=seller, q="grapefruit") == []
    assert _names(api, sellerId=seller, q="tangerin") == ["Tangerine"]
    assert _names(api, sellerId=seller, q="tangrine") == ["Tangerine"]
    assert api.request("DELETE", url).status_code == 204
    assert _names(api, sellerId=seller, q="tangerine") == []


def test_a_search_is_narrowed_by_every_filter(api: InProcess, seller: str) -> None:
    cheap = api.product(sellerId=seller, name="cheap fig", price=1, category="it's 50% \\ off")
    later(api, 1)
    dear = api.product(sellerId=seller, name="dear fig", price=10, status="draft")

    def names(**more: object) -> list[str]:
        return _names(api, sellerId=seller, q="fig", **more)

    assert names(category=cheap["category"]) == ["cheap fig"]
    assert names(status="draft") == names(priceMin=10) == ["dear fig"]
    assert names(priceMax="9.99") == ["cheap fig"]
    assert names(updatedSince=dear["updatedAt"]) == ["dear fig"]
    assert _names(api, sellerId="nobody", q="fig") == []


def test_too_many_words_are_refused(api: InProcess) -> None:
    words = [f"w{number}" for number in range(WORDS_MAX + 1)]
    assert api.get("/products", params={"q": " ".join(words[1:])}).status_code == 200
    answer = api.get("/products", params={"q": "-".join(words)})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].endswith("q")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_no_text_is_an_error(api: InProcess, written: str) -> None:
    answer = api.get("/products", params={"q": written})
    # Sixty characters may be more words than a search may have.
    assert answer.status_code == 200 or answer.json()["errors"][0]["code"] == "too_many"


@pytest.mark.parametrize("window", [1_000, 4, 6, 12, 1])
def test_pages_go_both_ways_and_hold_still_while_products_are_added(
    api: InProcess, seller: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "WINDOW", window)
    for number in range(12):
        later(api, 1)
        api.product(sellerId=seller, name=("pear", "pears ripe", "big ripe pear")[number % 3])
    wanted = {"sellerId": seller, "q": "pear", "limit": 3}
    whole = _page(api, **{**wanted, "limit": 100})
    assert not whole["hasMore"]
    pages, added = [_page(api, **wanted)], []
    while pages[-1]["hasMore"]:
        # Better than all others, and newer.
        later(api, 1)
        added.append(api.product(sellerId=seller, name="pear")["id"])
        pages.append(_page(api, **wanted, cursor=pages[-1]["nextCursor"]))
    # Full pages, whatever windows they are put together from.
    assert [page["data"] for page in pages] == [whole["data"][at : at + 3] for at in (0, 3, 6, 9)]
    assert pages[0]["prevCursor"] is None
    here = pages[-1]
    for page in pages[-2::-1]:
        here = _page(api, **wanted, cursor=here["prevCursor"])
        assert here["data"] == page["data"]
        forward = _page(api, **wanted, cursor=here["nextCursor"])
        assert forward["data"] == pages[pages.index(page) + 1]["data"]
    # As in every list, what has come meanwhile lies before the page that was the first.
    newer = _page(api, **wanted, cursor=here["prevCursor"])
    assert [row["id"] for row in newer["data"]] == added[::-1]
    assert newer["prevCursor"] is None


def test_a_product_that_goes_moves_no_other_out_of_a_search(
    api: InProcess, seller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "WINDOW", 4)
    # Oldest first; the second window's newest would come before all of the first.
    made = []
    for name in ("pears 8", "pears 7", "pears 6", "pear", *(f"pears {n}" for n in (4, 3, 2, 1))):
        later(api, 1)
        made.append(api.product(sellerId=seller, name=name))
    wanted = {"sellerId": seller, "q": "pear", "limit": 2}
    page = _page(api, **wanted)
    assert api.request("DELETE", f"/products/{made[5]['id']}").status_code == 204
    names = [row["name"] for row in page["data"]]
    while page["hasMore"]:
        page = _page(api, **wanted, cursor=page["nextCursor"])
        names += [row["name"] for row in page["data"]]
    assert names == ["pears 1", "pears 2", "pears 4", "pear", "pears 6", "pears 7", "pears 8"]


def test_an_answer_tells_the_position_of_the_stream(api: InProcess, seller: str) -> None:
    api.query("UPDATE stream_position SET stream_id = 'p1' RETURNING 1")
    for words in ("pear", "zzyzzx", "%%%"):
        answer = api.get("/products", params={"sellerId": seller, "q": words})
        assert answer.headers["x-stream-position"] == "p1"
