"""
The policy's file: what is accepted, and what is said, with the line, of what is not.
"""

from pathlib import Path

import pytest

from streams.core.policy import Policy
from streams.errors import UsageProblem
from streams.policy_file import parse_policy, read_policy

ROOT = Path(__file__).parents[1]
APRIL_2025_MS = 1_744_581_600_000


def test_the_file_that_ships_says_what_is_built_in() -> None:
    """Who edits it begins with what has been decided by so far."""
    shipped = read_policy(ROOT / "deploy" / "policy.yaml")
    assert shipped == Policy()
    assert shipped.digest == Policy().digest


@pytest.mark.parametrize(
    "text, policy",
    [
        pytest.param("", Policy(), id="nothing"),
        pytest.param("version: 2\nnotices_from: null\n", Policy(version=2), id="null"),
        pytest.param("adult_age: 21", Policy(adult_age=21), id="age"),
        pytest.param("notice_window_days: 0", Policy(notice_window_days=0), id="window"),
        pytest.param("countries: [NO, 'SE']", Policy(countries=frozenset({"NO", "SE"})), id="NO"),
        pytest.param("countries: []", Policy(countries=frozenset()), id="no-country"),
        pytest.param("products:\n- facebook", Policy(products=frozenset({"facebook"})), id="list"),
        pytest.param("kinds: [post]", Policy(kinds=frozenset({"post"})), id="kinds"),
        pytest.param(
            "notices_from: 2025-04-14T00:00:00+02:00",
            Policy(notices_from_ms=APRIL_2025_MS),
            id="plain-time",
        ),
        pytest.param(
            "notices_from: '2025-04-13T22:00:00Z'",
            Policy(notices_from_ms=APRIL_2025_MS),
            id="quoted-time",
        ),
    ],
)
def test_keys_left_out_take_their_defaults(text: str, policy: Policy) -> None:
    """What is written counts as written, Norway's code among it."""
    assert parse_policy(text, "p.yaml") == policy


@pytest.mark.parametrize(
    "text, said",
    [
        pytest.param("- version", "p.yaml:1: expected keys and values", id="list"),
        pytest.param("version: 2\na: b: c", "p.yaml:2: this is no YAML", id="no-yaml"),
        pytest.param("\nversoin: 2", "p.yaml:2: `versoin` is no key", id="unknown"),
        pytest.param("versoin: 2", "did you mean `version`?", id="near"),
        pytest.param("version: 2\nversion: 3", "p.yaml:2: `version` stands", id="twice"),
        pytest.param("version: 0", "`version` holds 0, expected a whole number", id="version"),
        pytest.param("version: two", "`version` holds two", id="word"),
        pytest.param("adult_age: 18.5", "`adult_age` holds 18.5", id="fraction"),
        pytest.param("adult_age: [18]", "`adult_age` holds nested", id="nested"),
        pytest.param("notice_window_days: -1", "`notice_window_days` holds -1", id="negative"),
        pytest.param("notices_from: 2025-04-14", "expected a time with an offset", id="day"),
        pytest.param("notices_from: 2025-04-14T00:00:00", "a time with an offset", id="no-offset"),
        pytest.param("countries: DE", "`countries` holds DE, expected ISO", id="no-list"),
        pytest.param("countries:\n- DE\n- fr", "p.yaml:3: `countries` holds fr", id="small"),
        pytest.param("products: [orkut]", "`products` holds orkut", id="product"),
        pytest.param("kinds: [private_message]", "private messages are never used", id="private"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    """Where it stands, what was found, what is expected."""
    with pytest.raises(UsageProblem) as caught:
        parse_policy(text, "p.yaml")
    assert said in str(caught.value)


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """Nobody likes to start a worker five times."""
    with pytest.raises(UsageProblem) as caught:
        parse_policy("version: x\ncountries: y\nkind: z", "p.yaml")
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(UsageProblem, match=r"OBJECTIONS_POLICY: .* cannot be read"):
        read_policy(tmp_path / "none.yaml")


def test_a_digest_tells_policies_apart_but_not_their_spelling() -> None:
    """Order and the version don't count, anything decided by does."""
    digest = parse_policy("countries: [DE, FR]", "p.yaml").digest
    assert digest == parse_policy("version: 7\ncountries: [FR, DE]", "p.yaml").digest
    others = ["adult_age: 19", "notice_window_days: 1", "notices_from: 2025-04-14T00:00:00Z",
              "countries: [DE]", "products: [facebook]", "kinds: [post]", ""]  # fmt: skip
    assert len({digest, *(parse_policy(text, "p.yaml").digest for text in others)}) == 8
