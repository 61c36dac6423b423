"""Every page, in every state and language: complete, self-contained, and never more reassuring than the evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.analysis.record import CANCELLED
from services.analysis.results import Band, Reason
from services.analysis.states import AnalysisState
from services.gateway.web.languages import LANGUAGES
from tests.unit.web.conftest import result

STRANGE = {"concerns": [{"code": "not_a_lesion", "sentence": "…", "soft": True}]}
READING = ("/", "/?force=1", "/history", "/about", "/privacy", "/deleted", "/no-such-page")


def addresses(desk) -> list[str]:
    """One address of every page in every state."""
    analyses = [
        *(desk.add(state) for state in AnalysisState if not state.terminal),
        *(desk.add_done(band, probability) for band, probability in zip(Band, (0.002, 0.3, 0.997), strict=True)),
        desk.add_done(store=False, preparation=None, age_years=61),
        desk.add_done(age_years=61, result=replace(result(Band.LOW, 0.07), without_age=0.043)),
        desk.add_rejected("too_blurred"),
        desk.add_rejected("truncated"),
        desk.add_rejected("a_code_of_tomorrow"),
        desk.add(AnalysisState.FAILED, reason=Reason("network_unavailable", "…")),
        desk.add(AnalysisState.FAILED, reason=CANCELLED),
        desk.add_done(preparation=STRANGE, force=True),
        desk.add_doubtful(),
        desk.add(AnalysisState.DELETED),
    ]
    done = next(analysis for analysis in analyses if analysis.result)
    return [
        *READING,
        *(f"/analyses/{analysis.id}" for analysis in analyses),
        f"/analyses/{done.id}?feedback={done.id}",
        f"/analyses/{done.id}?withdrawn=1",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_whole_in_every_language(client, desk, read, language):
    for address in addresses(desk):
        response = client.get(address, headers={"Accept": "text/html", "Accept-Language": language})
        page = read(response)
        assert response.status_code in {200, 404, 410}, address
        assert page.all("html")[0]["lang"] == language
        assert response.headers["Content-Language"] == language
        assert len(page.all("h1")) == 1, address
        assert page.title.endswith("LesionLens")
        assert len(page.ids) == len(set(page.ids)), address
        assert page.inline_code == [], address
        assert page.foreign == [], address
        assert "%(" not in page.text, address


@pytest.mark.parametrize("language", ["de", "es", "fr"])
def test_no_page_says_the_same_in_two_languages(client, desk, read, language):
    for address in addresses(desk):
        headings = {
            wish: read(client.get(address, headers={"Accept": "text/html", "Accept-Language": wish})).title
            for wish in ("en", language)
        }
        assert headings["en"] != headings[language], address


def test_everything_a_page_refers_to_is_there(client, desk, read):
    for address in addresses(desk):
        page = read(client.get(address, headers={"Accept": "text/html"}))
        sources = [values.get("href") for values in page.all("link")] + [v.get("src") for v in page.all("script")]
        for source in sources:
            assert client.get(source).status_code == 200, source
        labels = {values.get("for") for values in page.all("label")} - {None}
        described = " ".join(
            value
            for _, values in page.tags
            for name, value in values.items()
            if name.startswith("aria-") and "by" in name
        )
        assert labels | set(described.split()) <= set(page.ids), address


def test_pages_allow_nothing_foreign_and_nothing_inline(client, desk):
    policy = client.get("/").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "blob:" not in policy
    assert "data:" not in policy


def test_answers_stay_out_of_caches_and_search_engines(client, desk, read):
    response = client.get(f"/analyses/{desk.add_done().id}")
    assert response.headers["Cache-Control"] == "no-store"
    robots = [values["content"] for values in read(response).all("meta") if values.get("name") == "robots"]
    assert robots == ["noindex, nofollow"]


@pytest.mark.parametrize("state", [state for state in AnalysisState if not state.terminal])
def test_without_javascript_a_running_analysis_refreshes_itself(client, desk, state):
    html = client.get(f"/analyses/{desk.add(state).id}").get_data(as_text=True)
    assert '<noscript><meta http-equiv="refresh"' in html


def test_a_finished_analysis_does_not_refresh_itself(client, desk):
    for analysis in (desk.add_done(), desk.add_rejected(), desk.add(AnalysisState.FAILED, reason=Reason("x", "…"))):
        assert "http-equiv" not in client.get(f"/analyses/{analysis.id}").get_data(as_text=True)


def test_the_queue_tells_how_many_come_before(client, desk, read):
    desk.ahead = 3
    assert "3 photos before yours" in read(client.get(f"/analyses/{desk.add(AnalysisState.QUEUED).id}")).words


def test_a_low_answer_is_no_all_clear(client, desk, read):
    words = read(client.get(f"/analyses/{desk.add_done(Band.LOW, 0.04).id}")).words
    assert "This is not an all-clear" in words
    assert "In our tests, 5 of 100 cancers were still in this group." in words
    for reassurance in ("you are fine", "harmless", "benign", "nothing to worry", "no cancer"):
        assert reassurance not in words.lower().replace("rated higher than a harmless one", "")


@pytest.mark.parametrize(("band", "probability"), [(Band.LOW, 0.04), (Band.UNSURE, 0.3), (Band.HIGH, 0.8)])
def test_an_answer_tells_what_to_do_and_what_it_is_not(client, desk, read, band, probability):
    words = read(client.get(f"/analyses/{desk.add_done(band, probability).id}")).words
    assert "not a medical device" in words
    assert "Whatever this page says" in words
    assert "This is not a diagnosis" in words
    assert f"about {round(probability * 100)} showed a malignant spot" in words
    assert "Model version 7" in words


def test_an_answer_says_whether_the_age_counts_in_it_and_what_the_photo_alone_says(client, desk, read):
    counted = desk.add_done(age_years=61, result=replace(result(Band.LOW, 0.07), without_age=0.043))
    words = read(client.get(f"/analyses/{counted.id}")).words
    assert "The age of 61 is counted in. From the photo alone it would be 4%." in words
    passed_over = desk.add_done(age_years=61)
    assert "The age is not counted in" in read(client.get(f"/analyses/{passed_over.id}")).words
    assert "The age" not in read(client.get(f"/analyses/{desk.add_done().id}")).words


def test_no_answer_is_given_as_certain(client, desk, read):
    for probability, shown in ((0.0004, "< 1%"), (0.9999, "> 99%")):
        words = read(client.get(f"/analyses/{desk.add_done(Band.LOW, probability).id}")).words
        assert shown in words
        assert "about 0 showed" not in words
        assert "about 100 showed" not in words


def test_kinds_of_spots_are_ranked(client, desk, read):
    words = read(client.get(f"/analyses/{desk.add_done().id}")).words
    places = [words.index(name) for name in ("melanocytic naevus", "basal cell carcinoma", "angioma")]
    assert places == sorted(places)


def test_the_answer_to_a_doubtful_photo_waits_behind_the_reasons(client, desk, read):
    address = f"/analyses/{desk.add_doubtful(band=Band.HIGH, probability=0.93).id}"
    held = client.get(address)
    words = read(held).words
    assert "The skin reflects the light. Tilt the camera a little" in words
    assert "This says nothing about the spot itself." in words
    assert "should be seen by a doctor within days" in words
    assert "Estimated risk" not in words
    assert "0.93" not in held.get_data(as_text=True)
    assert f"{address}?anyway=1" in [link.get("href") for link in read(held).all("a")]


def test_used_anyway_a_doubtful_photo_is_answered_below_the_reasons(client, desk, read):
    sent_in_spite = desk.add_doubtful(force=True)
    for address in (f"/analyses/{desk.add_doubtful().id}?anyway=1", f"/analyses/{sent_in_spite.id}"):
        words = read(client.get(address)).words
        assert words.index("The skin reflects the light.") < words.index("Estimated risk")


def test_another_language_does_not_ask_anew(client, desk, read):
    links = read(client.get(f"/analyses/{desk.add_doubtful().id}?anyway=1")).all("a")
    assert "?lang=de&anyway=1" in [link.get("href") for link in links]


def test_a_photo_without_faults_is_answered_at_once(client, desk, read):
    assert "Estimated risk" in read(client.get(f"/analyses/{desk.add_done().id}")).words


def test_a_photo_that_was_not_stored_is_not_asked_for(client, desk):
    html = client.get(f"/analyses/{desk.add_done(store=False).id}").get_data(as_text=True)
    assert "/image" not in html
    assert "no longer stored" in html


def test_pages_open_without_models(client, desk, tmp_path):
    (tmp_path / "stack.json").unlink()
    assert client.get("/about").status_code == 200
    assert client.get(f"/analyses/{desk.add_done().id}").status_code == 200


def test_an_answer_about_what_is_no_spot_says_so_before_its_numbers(client, desk, read):
    strange = desk.add_done(preparation=STRANGE, force=True)
    words = read(client.get(f"/analyses/{strange.id}")).words
    assert words.index("the numbers below mean nothing") < words.index("How likely is it malignant?")
    assert "mean nothing" not in read(client.get(f"/analyses/{desk.add_done().id}")).words
