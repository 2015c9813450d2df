"""The API does what its OpenAPI document says: schemathesis asks all it allows, and does not."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from streams.intake.api import description
from streams.kafka.local import LocalKafka
from tests.intake_scene import ANSWER_S, SIGNER, Intake
from tests.worker_process import apply_topics

schema = schemathesis.openapi.from_dict(description())
numbers = count()


@pytest.fixture(scope="module")
def intake(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    """Return a form without a worker behind it."""
    apply_topics(kafka, "api.", 1)
    with Intake(kafka, "api.", tmp_path_factory.mktemp("api") / "intake") as started:
        yield started.wait_ready()


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_is_as_described(case: "schemathesis.Case[Any]", intake: Intake) -> None:
    """
    Whatever is asked, the answer is one that the document knows, with the content it describes.
    """
    number = next(numbers)
    user = f"api-{number}"  # or somebody would soon have asked too often
    fits = case.meta is not None and case.meta.generation.mode.is_positive
    if "receipt" in case.path_parameters and fits and number % 2:
        case.path_parameters["receipt"] = SIGNER.receipt_token(user, "WEB-1", time.time())
    token = intake.link(user).rpartition("/")[2]
    case.call_and_validate(
        base_url=intake.form, headers={"Authorization": f"Bearer {token}"}, timeout=ANSWER_S
    )
