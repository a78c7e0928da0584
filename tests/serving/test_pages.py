"""The pages for people, in a real browser, and what they say without one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from serving.web.words import LANGUAGES, WORDS, choose_language
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Request

KINDS = ("good", "bad", "unsure", "novel")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("pages")
    promoted_spot(folder / "weights")
    with running(settings_in(folder)) as live:
        for number, kind in enumerate(KINDS):
            data = part_png(kind, seed=number)
            assert (
                live.post(data, capture_id=f"p{number}", serial=serial(number)).status_code == 201
            )
        assert live.post(part_png("good", seed=8), capture_id="p8", serial="").status_code == 201
        yield live


def test_every_word_exists_in_both_languages() -> None:
    keys = [set(WORDS[language]) for language in LANGUAGES]
    assert keys[0] == keys[1]
    assert all(word.strip() for words in WORDS.values() for word in words.values())


@pytest.mark.parametrize(
    ("asked", "accepted", "chosen"),
    [
        ("ko", "en", "ko"),
        ("en", "ko-KR", "en"),
        (None, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, "de,en;q=0.8", "en"),
        (None, None, "en"),
        ("xx", "ko", "ko"),
    ],
)
def test_the_language_is_the_readers(asked: str | None, accepted: str | None, chosen: str) -> None:
    assert choose_language(asked, accepted) == chosen


def test_the_first_page_shows_the_latest_verdicts_newest_first(shown: Live) -> None:
    answer = shown.http.get("/", params={"lang": "en"})
    assert answer.status_code == 200
    places = [answer.text.index(serial(number)) for number in range(len(KINDS))]
    assert places == sorted(places, reverse=True)
    assert all(word in answer.text for word in ("PASS", "FAIL", "REVIEW", "mark not read"))
    korean = shown.http.get("/", headers={"Accept-Language": "ko"})
    assert 'lang="ko"' in korean.text
    assert "불합격" in korean.text


def test_a_parts_page_shows_its_history_and_what_is_in_force(shown: Live) -> None:
    mark = serial(50)
    first = shown.post(part_png("bad", seed=50), capture_id="h1", serial=mark).json()
    shown.post(part_png("good", seed=51), capture_id="h2", serial=mark)
    page = shown.http.get(f"/parts/{mark}").text
    assert 'class="force fail"' in page  # a recheck never lifts a fail
    assert 'class="stands fail"' in shown.http.get("/").text  # nor does the first page say so
    assert shown.review(first["id"], reason="a <b>scratch</b> on the film").is_success
    page = shown.http.get(f"/parts/{mark.lower()}").text
    assert 'class="force pass"' in page
    assert "a &lt;b&gt;scratch&lt;/b&gt; on the film" in page
    assert page.count("card ") == 2


def test_a_parts_page_shows_its_names_holds_and_events(shown: Live) -> None:
    old, new = serial(60), serial(61)
    shown.post(part_png("good", seed=60), capture_id="p60", serial=old, mould="M-60")
    place = f"/v1/parts/KN-42/{old}"
    shown.add(f"{place}/names", "p60", serial=new, reason="marked again")
    note = {"event": "returned", "at": "2026-11-21T10:00:00Z", "note": "a <b>dent</b>"}
    shown.add(f"{place}/events", "p61", **note)
    hold = {"product": "KN-42", "scope": "mould", "value": "M-60", "reason": "cooling <i>off</i>"}
    held = shown.add("/v1/holds", "p62", **hold).json()
    for name, other in ((old, new), (new, old)):
        page = shown.http.get(f"/parts/{name}", params={"lang": "en"}).text
        assert f'Also known as: <span class="mark">{other}</span>' in page
        assert "returned<br>a &lt;b&gt;dent&lt;/b&gt;" in page
        assert "ON HOLD" in page
        assert "cooling &lt;i&gt;off&lt;/i&gt;" in page
    shown.add(f"/v1/holds/{held['id']}/release", "p63", reason="r")
    assert "ON HOLD" not in shown.http.get(f"/parts/{new}", params={"lang": "en"}).text


def test_an_unread_part_has_a_page_too(shown: Live) -> None:
    record = shown.http.get("/v1/inspections").json()["items"]
    part = next(item["part"] for item in record if item["serial"] is None)
    assert shown.http.get(f"/parts/{quote(part, safe='')}").status_code == 200


@pytest.mark.parametrize("mark", ["ZZZZZZZZZZ", "<script>alert(1)", "%00", "한글"])
def test_an_unknown_part_says_so(shown: Live, mark: str) -> None:
    answer = shown.http.get(f"/parts/{quote(mark, safe='')}", params={"lang": "en"})
    assert answer.status_code == 404
    assert "There is no record of this part." in answer.text
    assert "<script" not in answer.text


def test_find_takes_a_serial_or_a_trace_id(shown: Live) -> None:
    item = shown.http.get("/v1/inspections", params={"serial": serial(1)}).json()["items"][0]
    for typed in (item["trace_id"], item["trace_id"].lower().replace("-", ""), serial(1)):
        answer = shown.http.get("/find", params={"q": typed})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith(f"/parts/{serial(1)}?")


def test_style_sheets_are_kept_for_ever_under_their_digest(shown: Live) -> None:
    text = shown.http.get("/").text
    path = text.split('rel="stylesheet" href="')[1].split('"')[0]
    assert "immutable" in shown.http.get(path).headers["cache-control"]
    assert shown.http.get("/static/0000000000000000/page.css").status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine: apt-get install chromium (CI installs it)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running_browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield running_browser
        running_browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    yield opened
    opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/", "/?lang=ko", "/parts/{serial}", "/docs"])
def test_pages_load_nothing_from_elsewhere_and_break_no_policy(
    shown: Live, page: Page, path: str
) -> None:
    requests: list[Request] = []
    failed: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    answer = page.goto(shown.address + path.format(serial=serial(1)), wait_until="networkidle")
    assert answer is not None
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    elsewhere = [r.url for r in requests if not r.url.startswith((shown.address, "data:"))]
    assert (elsewhere, failed, said) == ([], [], [])


@pytest.mark.browser
def test_the_verdict_can_be_read_from_two_metres(shown: Live, page: Page) -> None:
    """0.35 degrees of arc at 2 m are 12 mm; on a screen of 96 pixels an inch, 46 pixels."""
    page.goto(shown.address + "/?lang=en", wait_until="networkidle")
    verdicts = page.locator(".verdict")
    sizes = verdicts.evaluate_all("all => all.map(v => parseFloat(getComputedStyle(v).fontSize))")
    assert len(sizes) >= 5
    assert min(sizes) >= 46
    images = page.locator("img").evaluate_all("all => all.map(i => i.naturalWidth)")
    assert images
    assert min(images) > 0
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]


@pytest.mark.browser
def test_a_person_finds_a_part_by_typing(shown: Live, page: Page) -> None:
    page.goto(shown.address + "/?lang=en")
    page.fill("input[name=q]", serial(1))
    page.keyboard.press("Enter")
    page.wait_for_url("**/parts/**")
    assert serial(1) in page.locator("h1").inner_text()
    assert page.locator(".verdict").first.inner_text() == "FAIL"


@pytest.mark.browser
def test_with_keys_a_browser_asks_once_and_shows_everything(
    tmp_path: Path, browser: Browser
) -> None:
    promoted_spot(tmp_path / "weights")
    with running(settings_in(tmp_path)) as live:
        assert live.post(part_png("bad"), serial=serial(1)).status_code == 201
        keys = AccessKeys(records_url(tmp_path / "var"))
        secret, _ = keys.create("screen", "mes")
        keys.close()
        context = browser.new_context(http_credentials={"username": "anybody", "password": secret})
        opened = context.new_page()
        refused: list[str] = []
        opened.on(
            "response", lambda answer: refused.append(answer.url) if answer.status == 401 else None
        )
        opened.goto(f"{live.address}/parts/{serial(1)}?lang=en", wait_until="networkidle")
        assert opened.locator(".verdict").first.inner_text() == "FAIL"
        width = opened.locator("img").first.evaluate("picture => picture.naturalWidth")
        ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        context.close()
    assert width > 0
    assert ground == "rgb(20, 24, 29)"
    assert refused == []
