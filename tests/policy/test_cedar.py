"""Cedar, asked strictly: what is accepted, and that nothing but a clean answer permits."""

from __future__ import annotations

from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy import cedar
from app.policy.asks import Approved, Ask
from app.policy.cedar import ERROR, PolicyError, PolicySet, Question, check
from app.policy.question import beside
from app.policy.ready import ready_made

LATE = "forbid (principal, action, resource) when { context.hour >= 18 };"
AGENT, API = "https://as.example/agents/a", "https://api.example"


def question(**context: Any) -> Question:
    known = {
        "human": "hum_1", "away": False, "sign_in_age": 10, "acr": "a", "actors": [AGENT], "first_actor": AGENT, "depth": 1,
        "task": {"id": "tsk_1", "default": True, "age": 5}, "scopes": ["read"], "labels": [], "touched": [], "combined": [],
        "other_tasks": [], "first_time": True, "now": 1_800_000_000, "hour": 9, "weekday": 1, "operation": "", "instance_age": -1,
    }  # fmt: skip
    return Question("issue", AGENT, "hum_2", API, "", (), {**known, **context})


@pytest.mark.parametrize("one", ready_made(), ids=lambda one: one.name)
def test_what_comes_with_deputy_is_accepted(one: Any) -> None:
    check(one.name, one.text)
    assert one.rule.endswith(".")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no policy"),
        ("forbid (", "parse"),
        ("permit (principal, action, resource);", "only forbid"),
        (LATE + " permit (principal, action, resource);", "only forbid"),
        ("forbid (principal, action, resource) when { context.humor == 1 };", "humor"),
        ('forbid (principal, action, resource) when { context.hour == "nine" };', ""),
        ('forbid (principal == User::"x", action, resource);', "User"),
        ('forbid (principal, action == Action::"delete", resource);', "delete"),
        ("forbid (principal == ?principal, action, resource);", "template"),
        ('@id("a") forbid (principal, action, resource); @id("a") forbid (principal, action, resource);', "same @id"),
    ],
)
def test_what_is_not_accepted(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=f"(?s).*{says}"):
        check("p", text)


def test_a_policy_forbids_and_is_named() -> None:
    policies = PolicySet.compile(
        [("late", LATE), ("two", '@id("x") ' + LATE + ' @id("y") forbid (principal, action, resource) when { context.depth > 3 };')]
    )
    assert policies.ask(question(hour=17)).allowed
    assert policies.ask(question(hour=18)).policies == ("late", "two/x")
    assert policies.ask(question(depth=4)).policies == ("two/y",)


def test_a_question_that_does_not_fit_the_schema_is_denied() -> None:
    policies = PolicySet.compile([("late", LATE)])
    # What was answered before does not answer for it either.
    assert policies.ask(question()).allowed
    for wrong in ({"hour": "nine"}, {"unheard": 1}, {"task": {"id": 1}}, {"labels": None}, {"now": object()}):
        said = policies.ask(question(**wrong))
        assert (said.allowed, said.policies) == (False, (ERROR,)), wrong
    missing = question()
    del missing.context["hour"]
    assert not policies.ask(missing).allowed
    assert not policies.ask(question()._replace(action="nothing")).allowed


def test_an_error_while_it_is_evaluated_is_a_denial() -> None:
    # The sum overflows, which Cedar reports as an error and answers without that policy.
    policies = PolicySet.compile([("sum", "forbid (principal, action, resource) when { context.now + 9223372036854775807 > 0 };")])
    assert policies.ask(question()).policies == (ERROR,)


class Answer:
    """What an engine could say."""

    def __init__(self, decision: Any, errors: list[str]) -> None:
        self.decision, self.diagnostics = decision, type("D", (), {"errors": errors, "reasons": []})()


@pytest.mark.parametrize(
    "said",
    [
        lambda: Answer(cedarpy.Decision.Deny, []),
        lambda: Answer(cedarpy.Decision.NoDecision, []),
        lambda: Answer(cedarpy.Decision.Allow, ["something went wrong"]),
        lambda: Answer(None, []),
        lambda: Answer("allow", []),
        lambda: (_ for _ in ()).throw(ValueError("engine")),
    ],
    ids=["deny without a reason", "no decision", "allow with errors", "none", "a word", "raises"],
)
def test_nothing_but_a_clean_allow_permits(monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    assert PolicySet.compile([("late", LATE)]).ask(question()).allowed
    policies = PolicySet.compile([("late", LATE)])
    monkeypatch.setattr(cedar.cedarpy, "is_authorized", lambda *_: said())
    answer = policies.ask(question())
    assert (answer.allowed, answer.policies) == (False, (ERROR,))


def test_a_question_comes_back_from_the_record_as_it_was() -> None:
    asked = question(labels=["confidential"])
    assert Question.parse(asked.recorded()) == asked


# Policies that ask


ASKING = '@ask("approval") forbid (principal, action, resource) when { context.hour >= 18 };'
FRESH = '@ask("sign-in:300") forbid (principal, action, resource) when { context.hour >= 18 };'


@pytest.mark.parametrize(
    "annotation",
    ['@ask("aproval")', '@ask("")', "@ask", '@ask("sign-in")', '@ask("sign-in:0")', '@ask("sign-in:5m")', '@ask("sign-in:99999999")', '@aks("approval")'],
)  # fmt: skip
def test_an_annotation_that_means_nothing_is_not_accepted(annotation: str) -> None:
    with pytest.raises(PolicyError, match="ask|annotation"):
        check("p", f"{annotation} {LATE}")
    # One that came to be in force all the same forbids.
    said = PolicySet.compile([("p", f"{annotation} {LATE}")]).ask(question(hour=19))
    assert (said.allowed, said.policies, said.asks) == (False, ("p",), ())


def test_a_policy_that_asks_says_what() -> None:
    for text in (ASKING, FRESH, '@id("x") ' + ASKING):
        check("p", text)
    policies = PolicySet.compile([("ask", ASKING), ("fresh", FRESH)])
    assert policies.ask(question(hour=17)).allowed
    said = policies.ask(question(hour=19, sign_in_age=301))
    assert (said.policies, said.asks) == (("ask", "fresh"), (Ask(), Ask(300)))
    said = policies.ask(question(hour=19, sign_in_age=300))
    assert (said.policies, said.asks) == (("ask",), (Ask(),))


def test_a_plain_no_outweighs_every_ask() -> None:
    said = PolicySet.compile([("ask", ASKING), ("no", LATE)]).ask(
        question(hour=19)._replace(approved=Approved(frozenset({"ask", "no"}), 0))
    )
    assert (said.allowed, said.policies, said.asks) == (False, ("no",), ())


def test_an_answer_counts_for_the_policies_that_she_was_told_of() -> None:
    policies = PolicySet.compile([("ask", ASKING), ("fresh", FRESH)])
    late = question(hour=19, sign_in_age=4000)
    assert policies.ask(late._replace(approved=Approved(frozenset({"ask", "fresh"}), 300))).allowed
    assert policies.ask(late._replace(approved=Approved(frozenset({"ask", "fresh"}), 301))).policies == ("fresh",)
    assert policies.ask(late._replace(approved=Approved(frozenset({"fresh"}), 0))).policies == ("ask",)


def test_who_acts_for_nobody_has_nobody_to_ask() -> None:
    said = PolicySet.compile([("ask", ASKING)]).ask(question(hour=19, human=""))
    assert (said.allowed, said.policies, said.asks) == (False, ("ask",), ())


def test_a_question_with_an_answer_is_asked_again_with_it() -> None:
    asked = question(hour=19)._replace(approved=Approved(frozenset({"ask"}), 7))
    assert Question.parse(asked.recorded()) == asked
    assert "approved" not in question().recorded() and Question.parse(question().recorded()) == question()


# What was answered before


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (LATE, ("hour",)),
        ('forbid (principal, action, resource) when { context.scopes.contains("x") && context.task.default };', ("scopes", "task")),
        ('forbid (principal, action, resource) when { context has amount && context.amount.value.greaterThan(decimal("1.0")) };', ("amount",)),
        ('forbid (principal, action, resource) when { principal.owner == "x" };', ()),
        ('forbid (principal, action, resource) when { {"all": context}.all.hour > 3 };', None),
    ],
)  # fmt: skip
def test_what_a_policy_looks_at_is_told_or_everything_is(text: str, seen: tuple[str, ...] | None) -> None:
    assert PolicySet.compile([("one", text)]).looks_at == seen


def test_it_is_asked_once_about_what_differs_in_nothing_a_policy_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, engine = [], cedarpy.is_authorized

    def counting(*arguments: Any) -> Any:
        asked.append(arguments)
        return engine(*arguments)

    monkeypatch.setattr(cedar.cedarpy, "is_authorized", counting)
    policies = PolicySet.compile([("late", LATE)])
    for now in range(5):
        assert policies.ask(question(now=now)).allowed
        assert policies.ask(question(now=now, hour=18)).policies == ("late",)
    assert len(asked) == 2
    for other in ({"agent": "https://as.example/agents/b"}, {"action": "call"}, {"target": "https://other.example"}, {"owner": "hum_3"}):
        assert policies.ask(question()._replace(**other)).allowed
    assert policies.ask(question()._replace(target_labels=("confidential",))).allowed
    assert len(asked) == 7


SETS = st.lists(st.sampled_from(["confidential", "external-send", "unknown", "payment-prepare", "payment-approve", "hr"]), unique=True).map(
    sorted
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_remembered_is_what_would_be_answered(data: st.DataObject) -> None:
    texts = [(one.name, one.text) for one in ready_made()]
    remembering = PolicySet.compile(texts)
    for _ in range(6):
        context = {name: data.draw(SETS) for name in ("labels", "touched", "combined", "other_tasks")}
        asked = question(
            **context, hour=data.draw(st.integers(0, 23)), first_time=data.draw(st.booleans()), depth=data.draw(st.integers(1, 4))
        )
        assert remembering.ask(asked) == PolicySet.compile(texts).ask(asked)


# What the agent's other tasks have touched is read only where it matters

BESIDE = (
    'forbid (principal, action, resource) when { context.labels.contains("hr") && context.other_tasks.contains("payment-approve") };',
    'forbid (principal, action, resource) when { context.other_tasks.contains("hr") && context.hour > 12 && context.depth > 2 };',
    'forbid (principal, action, resource) when { context.hour > 20 } unless { context.other_tasks.contains("hr") };',
    'forbid (principal, action, resource) when { context.first_time && (context.depth > 3 || context.other_tasks.contains("hr")) };',
    'forbid (principal, action == Action::"call", resource) when { !context.other_tasks.isEmpty() };',
)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sets(st.sampled_from(BESIDE), min_size=1))
def test_where_other_tasks_are_not_looked_at_they_make_no_difference(data: st.DataObject, texts: set[str]) -> None:
    policies = PolicySet.compile(
        [*((f"p{n}", text) for n, text in enumerate(sorted(texts))), *((one.name, one.text) for one in ready_made())]
    )
    labels = data.draw(SETS)
    context = {
        "labels": labels, "combined": labels, "hour": data.draw(st.integers(0, 23)), "depth": data.draw(st.integers(1, 4)),
        "first_time": data.draw(st.booleans()),
    }  # fmt: skip
    before = question(**context)._replace(action=data.draw(st.sampled_from(["issue", "call"])))
    if not policies.looks_beside(before):
        assert policies.ask(before) == policies.ask(beside(before, frozenset(data.draw(SETS))))


def test_they_are_looked_at_where_they_can_and_never_where_no_policy_does() -> None:
    four_eyes = next(one.text for one in ready_made() if one.name == "four-eyes")
    policies = PolicySet.compile([("four-eyes", four_eyes)])
    assert not policies.looks_beside(question(labels=["confidential"]))
    assert policies.looks_beside(question(labels=["payment-approve"], combined=["payment-approve"]))
    assert not PolicySet.compile([("late", LATE)]).looks_beside(question(hour=20))
    assert not PolicySet().looks_beside(question())
    everything = "forbid (principal, action, resource) when { {all: context}.all.hour > 3 };"
    assert PolicySet.compile([("everything", everything)]).looks_beside(question(hour=0))
    # A question that cannot be asked is asked with everything.
    assert policies.looks_beside(question(unheard=1))


def test_no_policy_has_the_name_of_our_own_permit() -> None:
    for name in ("deputy", "permit", "ours"):
        assert not PolicySet.compile([(name, "forbid (principal, action, resource);")]).ask(question()).allowed


@pytest.mark.parametrize(
    "deep",
    [
        "(" * 20_000,
        "[" * 3_000,
        "context.scopes.contains(" * 800,
        '"(" == "(" && (' * 1_000,
        "// \r" + "(" * 1_000,
        ")" * 1_000 + "(" * 1_000,
    ],
)
def test_what_would_take_the_process_with_it_never_reaches_the_parser(deep: str) -> None:
    with pytest.raises(PolicyError, match="brackets"):
        check("deep", f"forbid (principal, action, resource) when {{ {deep} true }};")


@pytest.mark.parametrize("link", ["true && ", "true || ", "if true then true else "])
def test_a_condition_that_is_too_long_is_said_to_be(link: str) -> None:
    check("short", f"forbid (principal, action, resource) when {{ {link * 20} true }};")
    for times in (100, 300, 800):
        with pytest.raises(PolicyError):
            check("long", f"forbid (principal, action, resource) when {{ {link * times} true }};")


def test_brackets_in_strings_and_comments_are_none() -> None:
    check("quoted", "forbid (principal, action, resource) // " + "(" * 100 + '\nwhen { context.acr == "' + "(" * 100 + '\\"" };')
