"""The form and the canary as the Helm chart renders them."""

import pytest
from click import Context

from streams.commands import main
from tests.charting import Resource, environ_of, of_kind, parts, pod_of, render, settings_of


@pytest.fixture(scope="module")
def rendered() -> list[Resource]:
    """Return what the chart makes of the example's values."""
    return render()


def test_the_form_is_reached_and_knows_its_key(rendered: list[Resource]) -> None:
    """
    Its Service leads to its port, apart from metrics; the key is a reference; whoever waits for
    Kafka is answered before it ends.
    """
    form = parts(rendered)["intake"]
    (service,) = [
        each
        for each in of_kind(rendered, "Service")
        if each["metadata"]["name"].endswith("-intake")
    ]
    (container,) = pod_of(form)["containers"]
    environ = environ_of(pod_of(form))
    settings = settings_of(environ)
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    policies = {each["metadata"]["name"]: each for each in of_kind(rendered, "NetworkPolicy")}
    (opened,) = policies["t-objection-streams-intake"]["spec"]["ingress"]

    assert "objections-intake/key" == environ["OBJECTIONS_INTAKE_KEY"]
    assert [("form", "form")] == [(p["name"], p["targetPort"]) for p in service["spec"]["ports"]]
    assert {"http": settings.http_port, "form": settings.intake_http[1]} == ports
    labels = form["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= labels
    assert ["form"] == [each["port"] for each in opened["ports"]]
    leaves_s = pod_of(form)["terminationGracePeriodSeconds"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert leaves_s > pause_s + settings.intake_confirm_ms / 1000


def test_the_canary_judges_by_the_workers_policy(rendered: list[Resource]) -> None:
    """
    Its account is allowed by the same file, which it reads anew when that changes.
    """
    worker, canary = (parts(rendered)[name] for name in ("worker", "canary"))
    policies = [environ_of(pod_of(each))["OBJECTIONS_POLICY"] for each in (worker, canary)]
    sums = [each["spec"]["template"]["metadata"]["annotations"] for each in (worker, canary)]

    assert policies[0] == policies[1]
    assert sums[0] == sums[1]
    (container,) = pod_of(canary)["containers"]
    name, *words = container["args"]
    command = main.get_command(Context(main), name)
    assert command is not None
    assert command.make_context(name, words).params["every_s"] == 10
