"""The form, `objections intake`: its rules and its panels."""

from deploy.monitoring import limits
from deploy.monitoring.panels import Panel, Query, from_good
from deploy.monitoring.rule import Rule, alert
from deploy.monitoring.series import EVERY, F, quantile

_SUBMISSIONS = "objections_intake_submissions_total"
_REFUSALS = "objections_intake_refusals_total"
_CONFIRMATION = "objections_intake_confirmation_seconds"


def rules() -> list[Rule]:
    """Return when people cannot object by it, or have to wait."""
    confirmed = limits.CONFIRMED_WINDOW
    refused = limits.LINKS_REFUSED_WINDOW
    return [
        alert(
            "IntakeNotSaving",
            "critical",
            f"""
            round(sum by (job) (
              increase({_SUBMISSIONS}{{{F},outcome="not_saved"}}[{limits.NOT_SAVED_WINDOW}])
            )) >= {limits.NOT_SAVED_MIN}
            """,
            "1m",
            "{{ $value }} people were told within "
            f"{limits.NOT_SAVED_WINDOW} that their objection was not saved",
            "Kafka does not take what the form hands it. They were asked to try again.",
        ),
        alert(
            "IntakeAbsent",
            "critical",
            f"""
            count by (job) (max_over_time(up{{{F}}}[{limits.INTAKE_KNOWN}]) == 1)
            unless count by (job) (up{{{F}}} == 1)
            """,
            limits.ABSENT_FOR,
            "No `objections intake` tells of itself",
            f"One was there within {limits.INTAKE_KNOWN}: nobody can object by the links of their "
            "notices, or look at their receipts.",
        ),
        alert(
            "IntakeSlow",
            "warning",
            f"""
            histogram_quantile(0.99,
              sum by (job, le) (rate({_CONFIRMATION}_bucket{{{F}}}[{confirmed}]))
            ) > {limits.CONFIRMED_S}
            """,
            "5m",
            "One in a hundred waits over {{ $value | humanizeDuration }} for Kafka's confirmation",
            f"Over {confirmed}. Their pages stand still meanwhile; who waits longer than "
            "OBJECTIONS_INTAKE_CONFIRM_MS is told that nothing was saved.",
        ),
        alert(
            "IntakeLinksRefused",
            "warning",
            f"""
            round(sum by (job) (
              increase({_REFUSALS}{{{F},reason=~"forged|expired"}}[{refused}])
            )) >= {limits.LINKS_REFUSED_MIN}
            and
            sum by (job) (increase({_REFUSALS}{{{F},reason=~"forged|expired"}}[{refused}]))
            > sum by (job) (increase({_SUBMISSIONS}{{{F},outcome="saved"}}[{refused}]))
            """,
            "0m",
            f"{{{{ $value }}}} links were refused within {refused}, more than objections "
            "were saved",
            "A key that is not the one links were signed with, links sent too long ago, or "
            "somebody who guesses.",
        ),
    ]


def panels() -> list[Panel]:
    """Return what people send, how long they wait, and who is refused."""
    return [
        Panel(
            "timeseries",
            "Form: submissions by outcome",
            "Saved: confirmed by Kafka.  Not saved: it was not, and whoever sent it was told.",
            [
                Query(
                    f"sum by (action, outcome) (rate({_SUBMISSIONS}{{{F}}}[{EVERY}]))",
                    "{{action}} {{outcome}}",
                )
            ],
            unit="cps",
            width=6,
            no_value="no form",
        ),
        Panel(
            "timeseries",
            "Form: how long Kafka's confirmation takes",
            "Whoever pressed the button waits that long.  The line is where ObjectionsIntakeSlow "
            "fires.",
            [
                Query(quantile(0.5, _CONFIRMATION, F), "p50"),
                Query(quantile(0.99, _CONFIRMATION, F), "p99"),
            ],
            unit="s",
            steps=from_good(warn=limits.CONFIRMED_S, bad=limits.CONFIRMED_S),
            log=True,
            width=6,
            no_value="no form",
        ),
        Panel(
            "timeseries",
            "Form: waiting for Kafka's confirmation",
            "Submissions at this moment, by process.  It grows while Kafka is away.",
            [Query(f"objections_intake_waiting_submissions{{{F}}}", "{{instance}}")],
            width=6,
            no_value="no form",
        ),
        Panel(
            "timeseries",
            "Form: refused by reason",
            "Links and forms that do not hold, other websites, too many requests.",
            [Query(f"sum by (reason) (rate({_REFUSALS}{{{F}}}[{EVERY}]))", "{{reason}}")],
            unit="cps",
            width=6,
            no_value="no form",
        ),
    ]
