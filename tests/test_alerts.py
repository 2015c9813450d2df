"""Rules, runbook and dashboard of deploy/monitoring: they agree with their source and with us."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy.monitoring import __main__ as command
from deploy.monitoring import limits
from deploy.monitoring.build import FOLDER, built
from deploy.monitoring.dashboard import dashboard
from deploy.monitoring.panels import COLUMNS
from deploy.monitoring.rules import rules, slug
from streams.intake.metrics import INTAKE_METRICS
from streams.latencies import BOUNDS_MS
from streams.metric_table import CANARY_METRICS, METRICS, MONITOR_METRICS, Metric
from tests.prometheus import promtool
from tests.promql import (
    all_exprs,
    grouped_by,
    panel_exprs,
    panel_list,
    rule_list,
    selectors,
)

ROOT: Final = Path(__file__).parents[1]
CASES: Final = sorted((FOLDER / "tests").glob("*_test.yml"))
OURS: Final = {
    metric.name: metric for metric in (*METRICS, *MONITOR_METRICS, *CANARY_METRICS, *INTAKE_METRICS)
}
OF_SCRAPES: Final = {"job", "instance"}
OTHERS: Final = {  # of Prometheus and its client library
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set(),
    "process_max_fds": set(),
    "process_open_fds": set(),
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
}  # type: dict[str, set[str]]
QUESTIONS: Final = (
    "What users lose.",
    "How to confirm.",
    "What to do.",
    "How to know it is over.",
)
ALERTS: Final = sorted({rule["alert"] for rule in rule_list() if "alert" in rule})
RECORDS: Final = {rule["record"] for rule in rule_list() if "record" in rule}


def sections() -> dict[str, str]:
    """Return the runbook's sections by the anchor of their heading."""
    _, *found = re.split(r"(?m)^## ", (FOLDER / "RUNBOOK.md").read_text("utf-8"))
    pairs = (each.partition("\n") for each in found)
    return {heading.lower().replace(" ", "-"): text for heading, _, text in pairs}


def labels_of(name: str) -> set[str] | None:
    """Return the labels a series of this name has, beside those of scrapes; None: there is none."""
    if name in OTHERS:
        return OTHERS[name]
    if name in RECORDS:
        (expr,) = {rule["expr"] for rule in rule_list() if rule.get("record") == name}
        return grouped_by(expr) or {"topic"}  # what is recorded of a record
    plain = re.sub(r"_(bucket|count|sum)$", "", name)
    metric: Metric | None = OURS.get(name) or OURS.get(plain)
    if metric is None or (metric.type == "histogram") != (name != metric.name):
        return None
    return {*metric.labels, *(("le",) if name.endswith("_bucket") else ())}


@pytest.mark.parametrize("name", ["rules.yml", "dashboard.json"])
def test_what_is_committed_is_what_the_source_makes(name: str) -> None:
    """
    Whoever changes the source, or the built file by hand, is told to build.
    """
    assert built()[name] == (FOLDER / name).read_text("utf-8"), "run python -m deploy.monitoring"


def test_a_file_that_is_not_what_is_built_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    `--check` writes nothing and has status 1; `--runbook` moves every link.
    """
    assert 0 == command.main(["--out", str(tmp_path), "--runbook", "https://example.org/r"])
    capsys.readouterr()

    assert 1 == command.main(["--out", str(tmp_path), "--check"])
    assert "rules.yml is not what is built: run python -m deploy.monitoring" in (
        capsys.readouterr().err
    )
    moved = (tmp_path / "rules.yml").read_text("utf-8")
    assert len([1 for rule in rule_list() if "alert" in rule]) == moved.count("https://example.org")
    shown = json.loads((tmp_path / "dashboard.json").read_text("utf-8"))
    assert ["https://example.org/r"] == [each["url"] for each in shown["links"]]


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Status 2, as of any bad usage, and no traceback.
    """
    with pytest.raises(SystemExit) as ended:
        command.main(["--out", str(tmp_path / "nowhere")])

    assert 2 == ended.value.code
    assert "nowhere', which is no folder; expected one that exists" in capsys.readouterr().err


@pytest.mark.parametrize("alert", ALERTS)
def test_every_link_leads_to_its_section(alert: str) -> None:
    """
    File and heading exist, and the section answers what somebody woken up asks.
    """
    links = {
        rule["annotations"]["runbook_url"] for rule in rule_list() if rule.get("alert") == alert
    }
    (link,) = links
    path, _, anchor = link.partition("#")

    assert (ROOT / path).samefile(FOLDER / "RUNBOOK.md")
    assert slug(alert) == anchor
    text = sections()[anchor]
    answers = re.split(r"(?m)^\*\*(.+?)\*\*", text)
    assert list(QUESTIONS) == answers[1::2]
    assert all(len(answer.split()) >= 4 for answer in answers[2::2]), answers


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    """
    Its own links lead somewhere, too; the first section is no alert's.
    """
    anchors = sections().keys()

    assert {"where-to-look-first", *map(slug, ALERTS)} == anchors
    text = (FOLDER / "RUNBOOK.md").read_text("utf-8")
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_panels_named_in_the_runbook_are_on_the_dashboard() -> None:
    """
    What stands in quotation marks there is a panel, a row, or the beginning of one's name.
    """
    text = (FOLDER / "RUNBOOK.md").read_text("utf-8")
    titles = [each["title"] for each in dashboard()["panels"]]

    named = {each for each in re.findall(r'"([A-Z][^"]+)"', text) if each != "Processor"}
    lost = [name for name in named if not any(title.startswith(name) for title in titles)]

    assert [] == lost
    assert len(named) > 15


def test_the_promises_are_bounds_of_buckets() -> None:
    """
    "Within 1 s" and "within 5 s" are read off a series, not guessed between two.
    """
    assert {1_000, 5_000} == {limits.PUBLISHED_WITHIN_MS, limits.HIDDEN_WITHIN_MS}
    assert {1_000, 5_000} <= set(BOUNDS_MS)
    asked = {each for expr in all_exprs() for each in re.findall(r'le="([^"]+)"', expr)}
    assert {"1.0", "5.0"} == asked
    assert asked <= {str(bound_ms / 1000) for bound_ms in BOUNDS_MS}


def test_every_series_that_is_named_is_one_of_ours() -> None:
    """
    Rules and panels ask for metrics that are declared, by labels that these have.
    """
    wrong = []
    for expr in all_exprs():
        found = selectors(expr)
        assert found, expr
        known: set[str] = set(OF_SCRAPES)
        for each in found:
            labels = labels_of(each.name)
            if labels is None or not each.labels <= labels | OF_SCRAPES:
                wrong.append(each.text)
            known |= labels or set()
        if not grouped_by(expr) <= known:
            wrong.append(f"{expr}: {grouped_by(expr) - known}")

    assert [] == wrong


def test_a_name_that_is_not_ours_is_noticed() -> None:
    """
    The test above can fail: unknown names, labels, and a histogram without its suffix.
    """
    assert labels_of("objections_no_such_metric") is None
    assert labels_of("objections_propagation_seconds") is None
    assert labels_of("objections_consumer_lag_records_count") is None
    assert {"stage", "topic", "le"} == labels_of("objections_propagation_seconds_bucket")
    expr = 'sum by (topic) (rate(objections_events_total{outcome="x",topic=~"a{2}"}[5m])) > 0'
    assert ["objections_events_total"] == [each.name for each in selectors(expr)]
    assert {"topic"} == grouped_by(expr)


def test_alerts_say_what_severity_they_have_and_what_is_the_matter() -> None:
    """
    `critical` or `warning`, a summary that names the place, a description.
    """
    for rule in rule_list():
        if "record" in rule:
            continue
        assert rule["alert"].startswith("Objections"), rule
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
        assert re.fullmatch(r"\d+m", rule["for"])


def test_promtool_accepts_rules_and_configuration() -> None:
    """
    Both as they are committed.
    """
    for kind, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        done = promtool("check", kind, FOLDER / name)
        assert 0 == done.returncode, done.stdout + done.stderr


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """
    Each is checked as a rule of its own.
    """
    recorded = [
        {"record": f"panel:{number}", "expr": expr}
        for number, (_, expr) in enumerate(panel_exprs())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), "utf-8")

    done = promtool("check", "rules", file)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(recorded)} rules found" in done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_rules_do_what_their_cases_say(case: Path) -> None:
    """
    Invented series in, alerts out, by promtool.
    """
    done = promtool("test", "rules", case)

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_rule_has_cases_before_and_at_its_limit() -> None:
    """
    Each alert, of each window, is once seen quiet and once seen firing, its text once in full; each
    recorded series is looked at.
    """
    quiet: set[tuple[str, str | None]] = set()
    fires: set[tuple[str, str | None]] = set()
    texts: set[str] = set()
    looked_at = ""
    for case in CASES:
        for test in yaml.safe_load(case.read_text("utf-8"))["tests"]:
            for asked in test.get("alert_rule_test", []):
                (fires if asked["exp_alerts"] else quiet).add((asked["alertname"], None))
                texts |= {asked["alertname"]} if asked["exp_alerts"] else set()
            for asked in test.get("promql_expr_test", []):
                looked_at += asked["expr"] + "\n"
                _note_of_window(asked, quiet, fires)
    wanted = {
        (rule["alert"], rule["labels"].get("window")) for rule in rule_list() if "alert" in rule
    }

    assert set(ALERTS) == texts
    assert set() == wanted - fires
    # Of the longest windows it is another series that stays quiet beside those that fire.
    assert set() == {each for each in wanted if each[1] not in {"6h", "1d", "3d"}} - quiet
    assert set() == {each for each in RECORDS if not re.search(rf"{each}\b", looked_at)}


def _note_of_window(
    asked: dict[str, Any],
    quiet: set[tuple[str, str | None]],
    fires: set[tuple[str, str | None]],
) -> None:
    """Note a case that looks at ALERTS of one window."""
    found = re.search(r'alertname="(\w+)".*window="(\w+)"', asked["expr"])
    if found is not None:
        (fires if asked["exp_samples"] else quiet).add((found[1], found[2]))


def test_the_dashboard_is_laid_out() -> None:
    """
    Numbers are unique, nothing lies on anything else or beyond the edge, and the first row, which
    is seen without scrolling, says whether anybody's objection is late.
    """
    panels = dashboard()["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not covered & cells, panel["title"]
        assert at["x"] + at["w"] <= COLUMNS
        cells |= covered

    assert len(panels) == len({panel["id"] for panel in panels})
    assert "Is anybody's objection late?" == panels[0]["title"]
    first = {panel["title"] for panel in panels if panel["gridPos"]["y"] == 1}
    assert {"Oldest objection waits", "Waiting since", "Not hidden yet, by store"} < first
    height = max(at["y"] + at["h"] for at in (p["gridPos"] for p in panels[:9]))
    assert height <= 14


def test_panels_have_a_unit_a_word_and_the_chosen_source() -> None:
    """
    Each says what it tells, what stands there without data, and asks the source of the variable.
    """
    board = dashboard()
    (variable,) = board["templating"]["list"]
    assert ("datasource", "prometheus", "datasource") == (
        variable["name"],
        variable["query"],
        variable["type"],
    )
    assert board["uid"] == "objections"
    for panel in panel_list():
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"], panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        first, *rest = defaults["thresholds"]["steps"]
        assert first["value"] is None, panel["title"]
        values = [step["value"] for step in rest]
        assert values == sorted(values), panel["title"]
        for asker in (panel, *panel["targets"]):
            assert {"type": "prometheus", "uid": "${datasource}"} == asker["datasource"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)), panel["title"]


def test_links_go_out_only_where_they_lead_somewhere() -> None:
    """
    A path in the repository is no URL: the dashboard has no dead link.
    """
    assert [] == dashboard()["links"]
    assert [] != dashboard("https://example.org/RUNBOOK.md")["links"]
    told = [
        rule["annotations"]["runbook_url"]
        for group in rules("https://example.org/RUNBOOK.md")["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert all(each.startswith("https://example.org/RUNBOOK.md#objections") for each in told)
