"""`python -m deploy.acls` without a Kafka: a role's rules and their lines, and what is refused."""

import pytest

from deploy.acls.__main__ import main
from deploy.acls.roles import Place, read_roles, rules

PLACE = Place("eu.", "eu.objections", ("connect-es",))


def test_roles_name_topics_of_the_contract_and_hold_no_right_twice() -> None:
    """
    Each rule is there once, and about names of the prefix or of groups that are watched.
    """
    for role in read_roles():
        found = rules(role, "User:x", PLACE)

        assert len(found) == len(set(found)) > 0
        assert {"eu."} == {each.name[:3] for each in found if each.name != "connect-es"}


def test_only_who_measures_stores_asks_watched_groups() -> None:
    """
    A group that OBJECTIONS_STORES counts is asked by worker, monitor and canary.
    """
    asks = {
        role
        for role in read_roles()
        if any(each.name == "connect-es" for each in rules(role, "User:x", PLACE))
    }

    assert {"worker", "monitor", "canary"} == asks


def test_lines_for_kafkas_own_tool(capsys: pytest.CaptureFixture[str]) -> None:
    """
    With --print each rule is a line of kafka-acls.sh, and no Kafka is asked.
    """
    asked = ["--bootstrap=h:1", "--prefix=eu.", "--principal=subscriber=User:idx", "--print"]
    assert 0 == main(asked)

    lines = capsys.readouterr().out.splitlines()
    assert (
        "kafka-acls.sh --bootstrap-server h:1 --command-config admin.properties --add "
        "--allow-principal User:idx --operation Read --group eu.objections-store- "
        "--resource-pattern-type prefixed"
    ) in lines
    assert not any("eligibility" in line for line in lines)


@pytest.mark.parametrize("text", ["king=User:x", "worker", "worker=x", "worker=User:"])
def test_a_role_that_is_not_there_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A principal that cannot be is status 2, with what is expected.
    """
    with pytest.raises(SystemExit) as ended:
        main([f"--principal={text}"])

    assert 2 == ended.value.code
    assert f"'{text}', expected ROLE=User:NAME" in capsys.readouterr().err
