"""The form and its API as people and programs meet them, on a real Kafka with a real worker."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from confluent_kafka import Consumer, TopicPartition

from streams.errors import CheckFailed, CommandError, Unreachable, UsageProblem
from streams.intake.run import run_intake
from streams.intake.tokens import FORM_OPEN_S, Signer
from streams.kafka.local import LocalKafka
from tests.intake_scene import ANSWER_S, KEY, SIGNER, Intake, Page, saved
from tests.making import grown_up, notice
from tests.worker_process import Inputs, Watch, Worker, apply_topics
from tests.worker_settings import settings_of, wait_for

PARTITIONS: Final = 2
PREFIX: Final = "form."
PATIENT_MS: Final = 20_000  # nothing here waits for a worker to be given up
UID: Final = "uid7Hq2xZ"  # every user's id begins with it


@dataclass
class Scene:
    """A form in front of a worker whose store is told about by tests."""

    kafka: LocalKafka
    intake: Intake
    worker: Worker
    inputs: Inputs
    watch: Watch

    def acknowledge(self) -> None:
        """Let the store say that it has hidden and erased all there is."""
        self.watch.wait_until_caught_up(workers=[self.worker])
        for number in range(PARTITIONS):
            for phase in ("hidden", "erased"):
                ack = {
                    "store": "index",
                    "topic": f"{PREFIX}training-users",
                    "partition": number,
                    "offset": self.end(number),
                    "phase": phase,
                    "at": "2026-04-15T09:00:00Z",
                }
                key = f"index/{PREFIX}training-users/{number}/{phase}"
                self.inputs.queue("purge-acks", ack, key, partition=0)
        self.inputs.flush()

    def end(self, number: int) -> int:
        """Return the end of a partition of `training-users`."""
        consumer = Consumer(settings_of(self.kafka, PREFIX).kafka(group_id="ends"))
        place = TopicPartition(f"{PREFIX}training-users", number)
        _, end = consumer.get_watermark_offsets(place, ANSWER_S)
        consumer.close()
        return int(end)

    def records(self, user_id: str) -> list[dict[str, Any]]:
        """Return the records of a user in `objections`."""
        found = saved(self.kafka, PREFIX, PARTITIONS)
        values = [json.loads(each.value() or b"{}") for each in found]
        return [each for each in values if each["user_id"] == user_id]

    def api(self, method: str, path: str, token: str = "", **options: Any) -> requests.Response:
        """Ask the API."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return requests.request(
            method,
            f"{self.intake.form}/api/v1/{path}",
            headers=headers,
            timeout=ANSWER_S,
            **options,
        )


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return the form, with a worker behind it."""
    folder = tmp_path_factory.mktemp("form")
    apply_topics(kafka, PREFIX, PARTITIONS)
    with (
        Worker(
            kafka,
            PREFIX,
            folder / "worker",
            session_timeout_ms=PATIENT_MS,
            STORES="index=training-users",
        ) as worker,
        Intake(kafka, PREFIX, folder / "intake", INTAKE_CONTACT="mailto:dpo@example.org") as intake,
        Inputs(kafka, PREFIX) as inputs,
        Watch(kafka, PREFIX) as watch,
    ):
        for each in (worker, intake):
            each.wait_ready()
        yield Scene(kafka, intake, worker, inputs, watch)


def test_from_the_link_to_the_last_store_and_back(scene: Scene) -> None:
    """
    Somebody objects, sees how far it has got store by store, and withdraws: a button each.
    """
    user = f"{UID}-ann"
    scene.inputs.send(("account-ages", grown_up(user_id=user)), ("notices", notice(user_id=user)))
    scene.watch.wait_until_caught_up(workers=[scene.worker])

    form = Page.open(scene.intake.link(user, locale="de-DE"))
    assert (200, "Widerspruch gegen die Nutzung Ihrer Daten für das KI-Training") == (
        form.status,
        form.heading,
    )
    page = form.send("instagram", "facebook")
    assert "Your objection has been saved" == page.heading
    number = re.search(r"WEB(-[A-Z2-7]{4}){4}", page.text)
    assert number is not None
    (record,) = scene.records(user)
    assert {
        "user_id": user,
        "objection_id": number[0],
        "action": "filed",
        "occurred_at": record["occurred_at"],
        "products": ["facebook", "instagram"],
        "channel": "web",
        "locale": "en",
    } == record

    receipt = page.url.partition("?")[0]
    scene.acknowledge()
    wait_for(lambda: "removed everywhere" in Page.open(receipt).text, "the receipt on its page")
    page = Page.open(receipt)
    assert "How far your objection has got" == page.heading
    for step in ("Removal ordered", "index: no longer used", "index: erased"):
        assert re.search(rf"{step}</th><td><time datetime", page.text), page.text
    assert "Widerspruch vom 20" in Page.open(form.url).text

    page = page.send()
    assert "Your objection has been withdrawn" == page.heading
    assert ["filed", "withdrawn"] == [each["action"] for each in scene.records(user)]
    assert "Your objection has been withdrawn" == Page.open(receipt).heading
    scene.watch.wait_until_caught_up(workers=[scene.worker])
    wait_for(lambda: ", withdrawn" in Page.open(f"{form.url}?lang=en").text, "the list of a link")


def test_an_objection_to_all_names_none(scene: Scene) -> None:
    """
    Who leaves all chosen objects to everything, also to what may come.
    """
    user = f"{UID}-all"
    form = Page.open(scene.intake.link(user))

    form.send("facebook", "instagram", "whatsapp", "messenger")

    (record,) = scene.records(user)
    assert "products" not in record


def test_sent_again_it_is_the_same_objection(scene: Scene) -> None:
    """
    A form sent twice counts once, and says so; after a withdrawal it stays withdrawn.
    """
    user = f"{UID}-twice"
    form = Page.open(scene.intake.link(user))

    first, second = form.send("facebook"), form.send("facebook")
    tokens = {each.url.partition("?")[0].rpartition("/")[2] for each in (first, second)}
    assert 1 == len({SIGNER.receipt(each) for each in tokens})
    assert "This form had been sent before." in second.text
    assert "This form had been sent before." not in first.text
    assert 1 == len({each["objection_id"] for each in scene.records(user)})

    first.send()
    assert "Your objection has been withdrawn" == form.send("facebook").heading


def test_nothing_chosen_is_no_objection(scene: Scene) -> None:
    """
    Without a product the form comes back, with what is missing.
    """
    user = f"{UID}-none"
    page = Page.open(scene.intake.link(user)).send()

    assert (422, []) == (page.status, scene.records(user))
    assert "Choose at least one." in page.text
    assert "All are chosen" not in page.text
    assert page.text.index('role="alert"') < page.text.index("<h1>")


def _forged(scene: Scene) -> str:
    return f"{scene.intake.form}/o/{Signer(['x' * 32]).link_token(f'{UID}-x', 4_000_000_000)}"


def test_links_that_do_not_hold_say_why(scene: Scene) -> None:
    """
    A forged, cut, expired or missing link has a page of its own, as a receipt's has.
    """
    link = scene.intake.link(f"{UID}-links")
    expected = [
        (_forged(scene), 403, "This link is not valid"),
        (link[:-3], 403, "This link is not valid"),
        (scene.intake.link(f"{UID}-late", valid_s=-5), 410, "This link has expired"),
        (link.replace("/o/", "/r/"), 403, "This link is not valid"),
        (f"{scene.intake.form}/", 200, "Please open the link in our notice"),
        (f"{scene.intake.form}/elsewhere", 404, "This page does not exist"),
        (f"{scene.intake.form}/o/", 404, "This page does not exist"),
    ]

    for url, status, heading in expected:
        page = Page.open(url)
        assert (status, heading) == (page.status, page.heading)
        assert 'href="mailto:dpo@example.org"' in page.text


def test_what_other_websites_send_is_refused(scene: Scene) -> None:
    """
    Only a form of ours, shown to this very person, is taken: all else saves nothing.
    """
    user = f"{UID}-csrf"
    form = Page.open(scene.intake.link(user))
    other = Page.open(scene.intake.link(f"{UID}-other"))
    own = form.send("facebook", headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False)
    assert 303 == own.status

    refused = [
        form.send("facebook", headers={"Sec-Fetch-Site": "cross-site"}),
        form.send("facebook", headers={"Sec-Fetch-Site": "same-site"}),
        form.send("facebook", headers={"Origin": "https://example.com"}),
        form.send("facebook", headers={"Origin": "null"}),
        form.send("facebook", word=other.word),
        form.send("facebook", word=""),
        form.send("facebook", word=f"{form.word[:-1]}x"),
    ]

    assert {(403, "This came from another website")} == {
        (each.status, each.heading) for each in refused
    }
    assert 1 == len(scene.records(user))


def test_a_page_open_too_long_keeps_what_was_chosen(scene: Scene) -> None:
    """
    An old form is shown again with what was chosen, and one more press saves it.
    """
    user = f"{UID}-stale"
    form = Page.open(scene.intake.link(user))
    old = SIGNER.form_word(f"objection {user}", time.time() - FORM_OPEN_S - 60)

    again = form.send("whatsapp", word=old)

    assert (409, []) == (again.status, scene.records(user))
    assert "Please press the button once more" in again.text
    assert ['<input type="checkbox" id="whatsapp" name="products" value="whatsapp" checked'] == (
        re.findall(r"<input[^>]* checked", again.text)
    )
    assert "Your objection has been saved" == again.send("whatsapp").heading


def test_headers_of_every_answer(scene: Scene) -> None:
    """
    Pages, refusals and the API carry what keeps readers safe, and no cookie.
    """
    link = scene.intake.link(f"{UID}-headers")
    pages = [Page.open(link), Page.open(link[:-1]), Page.open(f"{scene.intake.form}/x")]
    pages.append(Page.open(link).send("facebook", allow_redirects=False))
    pages.append(Page.open(f"{scene.intake.form}/api/v1/objections"))

    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert "no-store" == page.headers["Cache-Control"]
        assert "same-origin" == page.headers["Referrer-Policy"]
        assert "nosniff" == page.headers["X-Content-Type-Options"]
        assert "max-age=31536000" == page.headers["Strict-Transport-Security"]
        assert "Set-Cookie" not in page.headers
        assert "aiohttp" not in page.headers["Server"]


def test_one_person_can_send_only_so_much(scene: Scene) -> None:
    """
    After ten at once a person waits, and is told for how long.
    """
    user = f"{UID}-many"
    form = Page.open(scene.intake.link(user))
    statuses = [form.send("facebook", allow_redirects=False).status for _ in range(10)]
    assert {303} == set(statuses)

    page = form.send("facebook")

    assert (429, "Too many requests") == (page.status, page.heading)
    assert 1 <= int(page.headers["Retry-After"]) <= 5
    assert f"wait {page.headers['Retry-After']} seconds" in page.text
    answer = scene.api("POST", "objections", scene.intake.link(user).rpartition("/")[2], json={})
    assert 429 == answer.status_code


def test_the_api_does_the_same(scene: Scene) -> None:
    """
    Programs object, list, look and withdraw; a key chosen by them is one objection.
    """
    user = f"{UID}-api"
    token = scene.intake.link(user, locale="fr").rpartition("/")[2]
    key = {"Idempotency-Key": "k-1"}

    sent = [
        scene.api("POST", "objections", token, json={"products": ["messenger"]}, headers=key)
        for _ in range(2)
    ]
    assert {201} == {each.status_code for each in sent}
    told = sent[0].json()
    assert told["objection_id"] == sent[1].json()["objection_id"]
    record = scene.records(user)[0]
    assert (["messenger"], "in_app", "fr") == (
        record["products"],
        record["channel"],
        record["locale"],
    )

    wait_for(
        lambda: scene.api("GET", f"receipts/{told['receipt']}").json()["published_at"] is not None,
        "the receipt of the API",
    )
    listed = scene.api("GET", "objections", token).json()["objections"]
    assert [told["objection_id"]] == [each["objection_id"] for each in listed]
    assert listed[0]["stores"].keys() == {"index"}

    done = scene.api("POST", f"receipts/{told['receipt']}/withdrawal")
    assert (201, "withdrawn") == (done.status_code, done.json()["state"])
    page = Page.open(f"{scene.intake.form}/r/{told['receipt']}?lang=en")
    assert "Your objection has been withdrawn" == page.heading


@pytest.mark.parametrize(
    "body,status",
    [
        ("{", 400),
        ("[]", 400),
        ('{"products": []}', 400),
        ('{"products": ["myspace"]}', 400),
        ('{"product": ["facebook"]}', 400),
        ('{"locale": "de\\n"}', 400),
        ("[" * 10_000, 400),
        (b'{"locale": "\xff"}', 400),
        ('{"locale": "' + "x" * 20_000 + '"}', 413),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_the_api_refuses(scene: Scene, body: str | bytes, status: int) -> None:
    """
    What is not as described is refused as RFC 9457 has it, and quotes nothing.
    """
    token = scene.intake.link(f"{UID}-bad{hash(body)}").rpartition("/")[2]
    headers = {"Content-Type": "application/json"}

    answer = scene.api("POST", "objections", token, data=body, headers=headers)

    assert (status, "application/problem+json") == (
        answer.status_code,
        answer.headers["Content-Type"].partition(";")[0],
    )
    assert status == answer.json()["status"]
    assert "xxx" not in answer.text


def test_what_is_measured(scene: Scene) -> None:
    """
    Saved and refused is counted, on the operators' address alone.
    """
    before = scene.intake.metrics()['objections_intake_refusals_total{reason="forged"}']
    Page.open(_forged(scene))
    after = scene.intake.metrics()

    assert before + 1 == after['objections_intake_refusals_total{reason="forged"}']
    series = 'objections_intake_submissions_total{action="filed",outcome="saved"}'
    Page.open(scene.intake.link(f"{UID}-count")).send("facebook")
    told = scene.intake.metrics()
    assert after[series] + 1 == told[series]
    confirmed = "objections_intake_confirmation_seconds_count"
    assert after[confirmed] + 1 == told[confirmed]
    assert 404 == Page.open(f"{scene.intake.form}/metrics").status


def test_logs_tell_of_nobody(scene: Scene) -> None:
    """
    Whatever was sent, no id, token, key or address of a person is in the log.
    """
    Page.open(f"{scene.intake.form}/o/{UID}\x00{'y' * 9_000}")  # longer than a server reads
    text = scene.intake.log()

    assert "form: http://" in text
    for mark in (UID, KEY, "eyJ", "WEB-", "Traceback"):
        assert mark not in text.replace(scene.intake.form, "")


@pytest.mark.parametrize(
    "variables,error,said",
    [
        ({"INTAKE_KEY": ""}, UsageProblem, "OBJECTIONS_INTAKE_KEY is not set"),
        ({"HTTP": "0.0.0.0:0"}, UsageProblem, "there is no OBJECTIONS_HTTP_TOKEN"),
        ({"BOOTSTRAP": "127.0.0.1:1"}, Unreachable, "Kafka at 127.0.0.1:1"),
        ({"TOPIC_PREFIX": "nowhere."}, CheckFailed, "has no nowhere.objections, nowhere.receipts"),
        (
            {"INTAKE_HTTP": "192.0.2.1:80"},
            UsageProblem,
            "OBJECTIONS_INTAKE_HTTP is '192.0.2.1:80', which cannot be listened on",
        ),
    ],
    ids=["no key", "no token", "no Kafka", "no topics", "no address"],
)
def test_it_does_not_start_unsafe(
    kafka: LocalKafka,
    scene: Scene,
    tmp_path: Path,
    variables: dict[str, str],
    error: type[CommandError],
    said: str,
) -> None:
    """
    What cannot be safe, or cannot work, ends it at once with the remedy.
    """
    ours = {"INTAKE_KEY": KEY, "STATE_DIR": str(tmp_path), "HTTP": "127.0.0.1:0", **variables}

    with pytest.raises(error, match=re.escape(said)):
        run_intake(settings_of(kafka, PREFIX, **ours))


def test_it_leaves_cleanly(scene: Scene) -> None:
    """
    SIGTERM ends it in order; started again, it knows all receipts as before.
    """
    user = f"{UID}-again"
    link = scene.intake.link(user)
    Page.open(link).send("facebook")
    wait_for(lambda: "Your objections so far" in Page.open(f"{link}?lang=en").text, "the list")

    scene.intake.leave()
    scene.intake.start()
    scene.intake.wait_ready()

    assert "Your objections so far" in Page.open(f"{link}?lang=en").text
