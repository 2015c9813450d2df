"""The form in a real Chromium: with the keyboard alone, on a phone, and by axe-core."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.core.receipts import Receipt, StoreProgress
from streams.intake.html import (
    Earlier,
    FormView,
    Frame,
    ReceiptView,
    form_page,
    message_page,
    receipt_page,
)
from streams.intake.texts import LANGUAGES, texts
from streams.kafka.local import LocalKafka
from tests.chromium_keys import Keyboard
from tests.intake_scene import Intake, saved
from tests.worker_process import apply_topics

PARTITIONS = 1
TIME = "2026-04-15T09:00:00.123Z"
STORES = {"feature-store": StoreProgress(TIME, TIME), "a-store-with-a-long-name": StoreProgress()}
RECEIPT = Receipt("WEB-1", "u1", "filed", TIME, TIME, TIME, 3, STORES)


@pytest.fixture(scope="module")
def intake(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    """Return a form without a worker behind it."""
    apply_topics(kafka, "browser.", PARTITIONS)
    folder = tmp_path_factory.mktemp("browser")
    with Intake(kafka, "browser.", folder / "intake") as started:
        yield started.wait_ready()


async def _tab_to(keyboard: Keyboard, **wanted: str) -> None:
    """Press Tab until what is wanted has the focus, visibly, as everything on the way has."""
    for _ in range(40):
        await keyboard.press("Tab")
        found = await keyboard.focused()
        assert found["outline"] >= 2 or found["tag"] == "BODY", found
        if wanted.items() <= found.items():
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_with_the_keyboard_alone(intake: Intake, kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Tab, Space and Enter choose, object, and withdraw, on a phone that runs no scripts; the focus is
    always to be seen.
    """
    user = "keyboard-user"

    async def work() -> None:
        async with Keyboard(tmp_path) as keyboard:
            await keyboard.size(360, 740)
            await keyboard.ask("Emulation.setScriptExecutionDisabled", value=True)
            await keyboard.open(intake.link(user))
            await _tab_to(keyboard, id="facebook")
            await keyboard.press("Space")
            assert not (await keyboard.focused())["checked"]
            await _tab_to(keyboard, tag="BUTTON", text="Object")
            await keyboard.press("Enter")
            await keyboard.wait_for("document.title === 'Your objection has been saved'")
            await _tab_to(keyboard, tag="BUTTON", text="Withdraw the objection")
            await keyboard.press("Enter")
            await keyboard.wait_for("document.title === 'Your objection has been withdrawn'")
            # And another language, from the foot of the page.
            await _tab_to(keyboard, tag="SUMMARY")
            await keyboard.press("Enter")
            await _tab_to(keyboard, tag="A", text="Suomi")
            await keyboard.press("Enter")
            await keyboard.wait_for("document.documentElement.lang === 'fi'")

    asyncio.run(work())

    records = [json.loads(each.value() or b"") for each in saved(kafka, "browser.", PARTITIONS)]
    mine = [each for each in records if each["user_id"] == user]
    assert ["filed", "withdrawn"] == [each["action"] for each in mine]
    assert ["instagram", "whatsapp", "messenger"] == mine[0]["products"]


def test_it_fits_a_phone(intake: Intake, tmp_path: Path) -> None:
    """
    At 320 pixels nothing has to be scrolled sideways, and what is to be touched is large enough.
    """

    async def look() -> None:
        async with Keyboard(tmp_path) as keyboard:
            await keyboard.size(320, 640)  # what WCAG 2.2 asks for reflow
            for language in LANGUAGES:
                await keyboard.open(f"{intake.link('phone-user')}?lang={language}")
                await keyboard.wait_for(f"document.documentElement.lang === '{language}'")
                wide = await keyboard.evaluate("document.documentElement.scrollWidth")
                assert wide <= 320, (language, wide)
                heights = await keyboard.evaluate(
                    "[...document.querySelectorAll('button, .choice, summary')]"
                    ".map((each) => each.getBoundingClientRect().height)"
                )
                assert min(heights) >= 40, (language, heights)

    asyncio.run(look())


def _pages() -> dict[str, str]:
    frame = Frame(texts=texts("en"), contact="mailto:dpo@example.org")
    earlier = [Earlier(date="2026-04-15", href="../r/x", withdrawn=flag) for flag in (True, False)]
    receipts = {
        "saved": ReceiptView(objection_id="WEB-1", word="w", saved=True),
        "under way": ReceiptView(objection_id="WEB-1", word="w", receipt=RECEIPT),
        "withdrawn": ReceiptView(objection_id="WEB-1", word="w", withdrawn=True),
        "not withdrawn": ReceiptView(objection_id="WEB-1", word="w", problem="not_saved"),
    }
    return {
        "form": form_page(frame, FormView(word="w")),
        "form again": form_page(frame, FormView(word="w", earlier=earlier)),
        "nothing chosen": form_page(
            frame, FormView(word="w", chosen=(), problem="products_missing")
        ),
        "not saved": form_page(frame, FormView(word="w", problem="not_saved")),
        **{name: receipt_page(frame, view) for name, view in receipts.items()},
        "forged": message_page(frame, "forged"),
    }


def test_it_is_accessible(tmp_path: Path) -> None:
    """
    axe-core finds nothing on any page, at a desk and on a phone in the dark, contrast included.
    """
    found: list[str] = []

    async def look(keyboard: Keyboard, name: str) -> None:
        said = await keyboard.axe()
        found.extend(f"{name}: {each['id']}" for each in said["violations"])
        assert "color-contrast" in {each["id"] for each in said["passes"]}

    async def work() -> None:
        async with Keyboard(tmp_path) as keyboard:
            for mode in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": mode}]
                await keyboard.ask("Emulation.setEmulatedMedia", features=features)
                for name, page in _pages().items():
                    path = tmp_path / f"{mode} {name}.html"
                    path.write_text(page.replace("<details>", "<details open>"), "utf-8")
                    await keyboard.open(path.as_uri())
                    await look(keyboard, f"{mode}, {name}")
                await keyboard.size(320, 640)

    asyncio.run(work())

    assert [] == found
