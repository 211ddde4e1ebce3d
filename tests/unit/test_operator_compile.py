"""From objects and Secrets to lines, and what is said of each object."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.document import encode_line, make_document, parse_entry, parse_source
from hookcast_core.egress import EgressPolicy
from hookcast_core.subscription import parse_subscription
from hookcast_operator.compile import DEFECT, Compiled, Compiler, Judgement, World
from hookcast_operator.objects import CustomObject, Identity, Name, SecretObject, custom_object, secret_object
from tests.support.kinds import SIGNING_SECRET, Raw, secret, source, subscription
from tests.support.operator import entry

UID = "uid-shop-orders"
GENERATED = "orders-webhook-secret"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def fail(_identity: Identity, error: Exception) -> None:
    raise error


def compiler(
    *,
    every: bool = False,
    generate: tuple[str, ...] = (),
    last_good: tuple[bytes, ...] = (),
    on_defect: Callable[[Identity, Exception], None] = fail,
) -> Compiler:
    sources = [line for line in last_good if b'"verification"' in line]
    return Compiler(
        dispatcher="hookcast",
        policy=EgressPolicy(["internal.example:443"]),
        every_secret=every,
        generate_in=generate,
        stored=make_document(1, "origin", [line for line in last_good if line not in sources], sources),
        on_defect=on_defect,
    )


def world(*raws: Raw, hidden: tuple[Name, ...] = (), refused: tuple[str, ...] = ()) -> World:
    objects: dict[str, CustomObject] = {}
    secrets: dict[Name, SecretObject] = {}
    for raw in raws:
        if raw["kind"] == "Secret":
            found_secret = secret_object(raw)
            secrets[found_secret.key] = found_secret
        else:
            found = custom_object(raw["kind"], raw)
            objects[found.key] = found
    return World(objects, secrets, frozenset(hidden), lambda namespace: namespace not in refused)


def judged(compiled: Compiled, uid: str = UID) -> Judgement:
    return compiled.judgements[uid]


def reasons(judgement: Judgement) -> tuple[str | None, str | None]:
    """Why it is not accepted, and why its references are not."""
    return (
        judgement.accepted.reason if judgement.accepted else None,
        judgement.resolved.reason if judgement.resolved else None,
    )


def message(judgement: Judgement) -> str:
    refusal = judgement.accepted or judgement.resolved
    assert refusal is not None
    return refusal.message


def generation(number: int) -> Raw:
    return {"generation": number, "version": number}


def test_a_good_object_becomes_a_line() -> None:
    """With its Secret's key in it; what is shown of it is its host."""
    found = judged(compiler().compile(world(subscription(), secret())))

    assert found.holds
    assert (found.carries, found.endpoint, found.signing_secret, found.missing) == (
        1,
        "shop.example",
        None,
        frozenset(),
    )
    assert found.line is not None
    entry = parse_entry(found.line)
    assert (entry.uid, entry.namespace, entry.name, entry.source) == (UID, "shop", "orders", "kubernetes")
    assert entry.signing_keys[0].secret.get_secret_value() == SIGNING_SECRET
    assert SIGNING_SECRET not in repr(found)


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"endpoint": {"url": "nothing"}}, "InvalidURL", "spec.endpoint.url"),
        ({"endpoint": {"url": "https://10.0.0.1/"}}, "EgressDenied", "spec.endpoint.url"),
        ({"endpoint": {"url": "http://shop.example/"}}, "EgressDenied", "spec.endpoint.url"),
        ({"events": {"types": ["*"], "filter": "data.x >"}}, "InvalidFilter", "spec.events.filter"),
        ({"events": {"types": []}}, "InvalidSubscription", "spec.events.types"),
        ({"endpoint": {}}, "InvalidSubscription", "spec.endpoint"),
        ({"unknown": 1}, "InvalidSubscription", "spec.unknown"),
        ({"delivery": {"timeout": "-1s"}}, "InvalidSubscription", "spec.delivery.timeout"),
    ],
)
def test_what_does_not_hold_is_not_accepted(spec: Raw, reason: str, field: str) -> None:
    """The reason is a word, the message begins with the field."""
    found = judged(compiler().compile(world(subscription(**spec), secret())))

    assert reasons(found) == (reason, None)
    assert message(found).startswith(field)
    assert (found.line, found.carries, found.holds) == (None, None, False)


@pytest.mark.parametrize(
    ("raws", "hidden", "reason"),
    [
        ([], (), "SecretNotFound"),
        ([], (("shop", "signing"),), "SecretNotAllowed"),
        ([secret(allowed=False)], (), "SecretNotAllowed"),
        ([secret(other="x")], (), "SecretKeyNotFound"),
        ([secret(secret="whsec_short")], (), "InvalidSecret"),
        ([secret(meta={"namespace": "elsewhere"})], (), "SecretNotFound"),
    ],
)
def test_a_reference_that_is_not_found_is_told(raws: list[Raw], hidden: tuple[Name, ...], reason: str) -> None:
    """It is accepted, and its references are not resolved; what was looked for in vain is known."""
    compiled = compiler().compile(world(subscription(), *raws, hidden=hidden))

    found = judged(compiled)
    assert reasons(found) == (None, reason)
    assert message(found).startswith("spec.signing.keys[0].secretRef")
    assert not found.holds
    assert compiled.read == {("shop", "signing")}
    assert bool(found.missing) == (reason == "SecretNotFound" or bool(hidden))


def test_with_access_to_every_secret_no_label_is_needed() -> None:
    """An installation may say so."""
    assert judged(compiler(every=True).compile(world(subscription(), secret(allowed=False)))).holds


def test_the_last_good_line_is_kept() -> None:
    """While the newest generation does not hold; the condition says which one is in force."""
    one = compiler()
    good = judged(one.compile(world(subscription(), secret())))

    bad = judged(one.compile(world(subscription(meta=generation(2), events={"types": []}), secret())))
    lost = judged(one.compile(world(subscription(meta=generation(3)))))

    for found in (bad, lost):
        assert (found.line, found.carries, found.holds) == (good.line, 1, False)
    back = judged(one.compile(world(subscription(meta=generation(3)), secret())))
    assert (back.carries, back.holds) == (3, True)


def test_the_last_good_line_survives_a_restart() -> None:
    """It comes with what was stored; unreadable remnants and those of objects that went are dropped."""
    good = judged(compiler().compile(world(subscription(), secret())))
    assert good.line is not None
    gone = encode_line(entry("gone", "https://shop.example"))

    compiled = compiler(last_good=(good.line, b"unreadable", gone)).compile(world(subscription(meta=generation(2))))

    assert (judged(compiled).line, judged(compiled).carries) == (good.line, 1)
    assert compiled.judgements.keys() == {UID}


def test_a_secret_that_is_deleted_and_restored() -> None:
    """The line stays as it is meanwhile, and follows the Secret's new value."""
    one = compiler()
    before = judged(one.compile(world(subscription(), secret())))

    without = judged(one.compile(world(subscription())))
    after = judged(one.compile(world(subscription(), secret(secret=OTHER_SECRET, meta={"version": 5}))))

    assert (without.line, reasons(without)) == (before.line, (None, "SecretNotFound"))
    assert after.holds
    assert after.line != before.line


def test_a_secret_that_loses_its_label_is_no_longer_read() -> None:
    """With the label selector it looks deleted; that it exists is found later."""
    one = compiler()
    one.compile(world(subscription(), secret()))

    assert reasons(judged(one.compile(world(subscription())))) == (None, "SecretNotFound")
    hidden = judged(one.compile(world(subscription(), hidden=(("shop", "signing"),))))
    assert reasons(hidden) == (None, "SecretNotAllowed")
    assert "hookcast.dev/allow" in message(hidden)
    assert judged(one.compile(world(subscription(), secret(meta={"version": 3})))).holds


def test_the_same_inputs_give_the_same_judgement() -> None:
    """Not an equal one, the same: nothing is compiled again, and nothing is written."""
    one = compiler()
    raws = [subscription(), secret(), subscription("b"), source(), source("second", path="github")]
    first = one.compile(world(*raws))

    touched = subscription(status={"x": 1}, meta={"version": 9})
    again = one.compile(world(touched, *raws[1:], secret("unrelated")))

    assert first.judgements.keys() == again.judgements.keys()
    for uid, found in again.judgements.items():
        assert found is first.judgements[uid]


def test_only_what_changed_is_judged_anew() -> None:
    """An object of a new generation, and those that refer to a Secret that changed."""
    one = compiler()
    keys = {"keys": [{"secretRef": {"name": "own", "key": "secret"}}]}
    raws = [subscription("a"), subscription("b", signing=keys), secret("own")]
    first = one.compile(world(*raws, secret()))

    second = one.compile(world(*raws, secret(meta={"version": 2}, secret=OTHER_SECRET)))

    assert second.judgements["uid-shop-a"] is not first.judgements["uid-shop-a"]
    assert second.judgements["uid-shop-b"] is first.judgements["uid-shop-b"]


def test_objects_of_others_are_left_alone() -> None:
    """Another dispatcher's, those that are being deleted, and those of namespaces that are not taken."""
    one = compiler()
    foreign = subscription("foreign", dispatcherRef={"name": "other"})
    deleting = subscription("deleting", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    one.compile(world(subscription(), secret()))

    compiled = one.compile(world(subscription(), foreign, deleting, secret(), refused=("shop",)))

    assert [found.identity.name for found in compiled.foreign] == ["foreign"]
    assert compiled.judgements.keys() == {UID}
    found = judged(compiled)
    assert reasons(found) == ("NamespaceNotAllowed", None)
    assert found.line is None, "what it had in force is not kept"
    assert judged(one.compile(world(subscription(), secret()))).holds


def test_a_deleted_object_leaves_nothing() -> None:
    """Made again under its old UID it would begin anew."""
    one = compiler()
    one.compile(world(subscription(), secret()))

    assert one.compile(world()).judgements == {}
    assert judged(one.compile(world(subscription()))).line is None
    assert len(one._known) == 1


def test_an_annotation_that_is_no_time_is_told() -> None:
    """What is in force stays."""
    one = compiler()
    before = judged(one.compile(world(subscription(), secret())))

    found = judged(one.compile(world(subscription(meta={"annotations": {"hookcast.dev/enable": "yes"}}), secret())))

    assert reasons(found) == ("InvalidSubscription", None)
    assert "hookcast.dev/enable" in message(found)
    assert found.line == before.line


@pytest.mark.parametrize(("text", "at"), [("2026-01-01T00:00:00Z", 1_767_225_600_000), (None, None)])
def test_the_annotation_that_enables_is_carried(text: str | None, at: int | None) -> None:
    """In the line, so that the dispatcher learns of it; another value makes another line."""
    one = compiler()
    before = judged(one.compile(world(subscription(), secret())))
    annotations = {} if text is None else {"hookcast.dev/enable": text}

    found = judged(one.compile(world(subscription(meta={"annotations": annotations}), secret())))

    assert found.line is not None
    assert parse_entry(found.line).enabled_at == at
    assert (found.line == before.line) == (at is None)


# Generated keys


def unsigned(**meta: Any) -> Raw:
    return subscription(signing={}, meta=meta)


def generated(
    key: str = SIGNING_SECRET, *, owner: str | None = UID, made_for: str | None = "orders", **meta: Any
) -> Raw:
    owners = [{"uid": owner}] if owner else []
    annotations = {"hookcast.dev/generated-for": made_for} if made_for else {}
    return secret(GENERATED, secret=key, meta={"ownerReferences": owners, "annotations": annotations, **meta})


def test_a_missing_key_is_wanted_and_then_used() -> None:
    """Until it is there its object waits; then it holds and names the Secret."""
    one = compiler(generate=("shop",))

    waiting = judged(one.compile(world(unsigned())))
    made = judged(one.compile(world(unsigned(), generated())))

    assert waiting.wants_secret is not None
    assert (waiting.wants_secret.name, waiting.wants_secret.key, waiting.wants_secret.retained) == (
        GENERATED,
        None,
        False,
    )
    assert reasons(waiting) == (None, "Pending")
    assert made.holds
    assert (made.signing_secret, made.wants_secret) == (GENERATED, None)


def test_a_lost_key_is_made_again_the_same() -> None:
    """Receivers know it; deliveries go on meanwhile, and after a restart as well."""
    one = compiler(generate=("shop",))
    made = judged(one.compile(world(unsigned(), generated())))
    assert made.line is not None

    for each in (one, compiler(generate=("shop",), last_good=(made.line,))):
        lost = judged(each.compile(world(unsigned())))
        assert lost.line == made.line
        assert lost.wants_secret is not None
        assert lost.wants_secret.key == SIGNING_SECRET
        assert SIGNING_SECRET not in repr(lost)


def test_a_key_that_was_referred_to_is_not_made_again() -> None:
    """Keys were named before: the generated one is a fresh one."""
    one = compiler(generate=("shop",))
    one.compile(world(subscription(), secret()))

    found = judged(one.compile(world(unsigned(generation=2), secret())))

    assert found.wants_secret is not None
    assert found.wants_secret.key is None


@pytest.mark.parametrize(
    "raw",
    [
        generated(made_for=None),
        generated(owner="uid-of-another"),
        generated(made_for="another"),
        generated(made_for=None, owner=None),
    ],
)
def test_a_secret_that_is_not_ours_is_not_used(raw: Raw) -> None:
    """Whoever may make a Secret of that name must not choose what others sign with."""
    found = judged(compiler(generate=("shop",)).compile(world(unsigned(), raw)))

    assert reasons(found) == (None, "SecretNotAllowed")
    assert found.wants_secret is None
    hidden = compiler(generate=("shop",)).compile(world(unsigned(), hidden=(("shop", GENERATED),)))
    assert reasons(judged(hidden)) == (None, "SecretNotAllowed")


def test_a_retained_secret_is_taken_up_again() -> None:
    """By a new object of its name: it has no owner."""
    wanted = judged(compiler(generate=("shop",)).compile(world(subscription(signing={"generatedSecret": "Retain"}))))
    assert wanted.wants_secret is not None
    assert wanted.wants_secret.retained

    assert judged(compiler(generate=("shop",)).compile(world(unsigned(uid="new"), generated(owner=None))), "new").holds


def test_nothing_is_generated_where_that_is_not_allowed() -> None:
    """The message says what to do; a Secret that is there already is used."""
    found = judged(compiler().compile(world(unsigned())))

    assert reasons(found) == (None, "SecretNotFound")
    assert found.wants_secret is None
    assert "generateSecrets.namespaces" in message(found)
    assert judged(compiler().compile(world(unsigned(), generated()))).holds


@pytest.mark.parametrize("data", [{"other": "eA=="}, {"secret": "eA=="}])
def test_a_generated_secret_that_was_changed_is_told(data: dict[str, str]) -> None:
    """It is not overwritten."""
    raw = generated() | {"data": data}

    found = judged(compiler(generate=("shop",)).compile(world(unsigned(), raw)))

    assert reasons(found) == (None, "InvalidSecret")
    assert found.wants_secret is None


def test_names_at_the_limit() -> None:
    """200 characters and what is appended make the name of a Secret."""
    name = "n" * 200
    raw = subscription(name, signing={})

    found = judged(compiler(generate=("shop",)).compile(world(raw)), f"uid-shop-{name}")

    assert found.wants_secret is not None
    assert len(found.wants_secret.name) <= 253


# Sources and their paths


def test_a_source_becomes_a_line() -> None:
    """With its path, or its name for one."""
    compiled = compiler().compile(world(source(), source("b", path="elsewhere")))

    assert {judged.path for judged in compiled.judgements.values()} == {"github", "elsewhere"}
    for found in compiled.judgements.values():
        assert found.holds
        assert found.line is not None
        assert parse_source(found.line).path == found.path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"verification": {"scheme": "Nothing"}}, ("InvalidSource", None)),
        (
            {"verification": {"scheme": "GitHub", "secretRefs": [{"name": "n", "key": "k"}]}},
            (None, "SecretNotFound"),
        ),
    ],
)
def test_a_source_that_does_not_hold_is_told(spec: Raw, expected: tuple[str | None, str | None]) -> None:
    """As of any object; it has no path then."""
    found = judged(compiler().compile(world(source(**spec))), "uid-shop-github")

    assert reasons(found) == expected
    assert (found.line, found.path) == (None, None)


def aged(name: str, day: int, path: str = "p", namespace: str = "shop", number: int = 1) -> Raw:
    meta = {"creationTimestamp": f"2026-01-{day:02}T00:00:00Z", "namespace": namespace, **generation(number)}
    return source(name, path=path, meta=meta)


def paths(compiled: Compiled) -> dict[str, str | None]:
    """Which path the configuration has for each source."""
    return {
        found.identity.name: None if found.line is None else parse_source(found.line).path
        for found in compiled.judgements.values()
    }


def test_of_two_with_one_path_the_oldest_has_it() -> None:
    """In whatever order they are listed; the other is told whose it is, and gets it when that is gone."""
    one = compiler()
    old, new = aged("old", 1), aged("new", 2)

    compiled = one.compile(world(new, old))

    assert paths(compiled) == {"old": "p", "new": None}
    refused = judged(compiled, "uid-shop-new")
    assert reasons(refused) == ("PathTaken", None)
    assert message(refused) == "spec.path: /webhooks/p belongs to old; choose another path"
    assert paths(one.compile(world(new))) == {"new": "p"}


def test_the_same_moment_is_decided_by_uid() -> None:
    """So that every operator decides alike."""
    assert paths(compiler().compile(world(aged("b", 1), aged("a", 1)))) == {"a": "p", "b": None}


def test_another_namespace_s_source_is_not_named() -> None:
    """Whoever reads this object may not be allowed to know it."""
    compiled = compiler().compile(world(aged("old", 1, namespace="private"), aged("new", 2)))

    assert "private" not in message(judged(compiled, "uid-shop-new"))
    assert "old" not in message(judged(compiled, "uid-shop-new"))


def test_who_has_a_path_keeps_it() -> None:
    """An older source that wants it later takes nothing away, and goes on at its own path."""
    one = compiler()
    first = one.compile(world(aged("old", 1, "own"), aged("new", 2)))

    second = one.compile(world(aged("old", 1, "p", number=2), aged("new", 2)))

    assert paths(first) == paths(second) == {"old": "own", "new": "p"}
    assert reasons(judged(second, "uid-shop-old")) == ("PathTaken", None)
    assert judged(second, "uid-shop-old").carries == 1
    lines = tuple(found.line for found in second.judgements.values() if found.line)
    after_restart = compiler(last_good=lines).compile(world(aged("old", 1, "p", number=2), aged("new", 2)))
    assert paths(after_restart) == paths(first)


def test_a_path_that_a_refused_one_still_has_is_not_given_away() -> None:
    """The refused one goes on at its path; who wanted that is refused as well."""
    one = compiler()
    one.compile(world(aged("a", 1, "a"), aged("b", 2, "b")))

    found = one.compile(world(aged("a", 1, "b", number=2), aged("b", 2, "b"), aged("c", 3, "a")))

    assert paths(found) == {"a": "a", "b": "b", "c": None}


def test_two_may_swap_their_paths() -> None:
    """At once, or one after the other."""
    one = compiler()
    one.compile(world(aged("a", 1, "a"), aged("b", 2, "b")))
    one.compile(world(aged("a", 1, "b", number=2), aged("b", 2, "b")))

    assert paths(one.compile(world(aged("a", 1, "b", number=2), aged("b", 2, "a", number=2)))) == {"a": "b", "b": "a"}


# One that is broken disturbs no other

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("endpoint", "events", "format", "signing", "delivery", "suspend", "verification", "event", "path", "response")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"endpoint": value}
    return value


def check_beside(spec: Any) -> None:
    broken = [subscription("broken") | {"spec": spec}, source("odd") | {"spec": spec}]
    found = compiler(generate=("shop",)).compile(world(*broken, subscription(), secret()))
    assert judged(found).holds
    for uid in ("uid-shop-broken", "uid-shop-odd"):
        assert found.judgements[uid].line is None or found.judgements[uid].holds


@given(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_a_broken_object_disturbs_no_other(spec: Any) -> None:
    """Whatever stands in its spec: the other one holds."""
    check_beside(spec)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        nested(5_000),
        {"endpoint": {"url": "https://" + "a" * 2_000_000}, "events": {"types": ["*"]}},
        {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["a" * 50] * 100_000}},
        {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"], "filter": "(" * 4_000}},
        {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"], "filter": "!" * 4_000 + "true"}},
        {"endpoint": {"url": "https://[::"}, "events": {"types": ["*"]}},
        {"endpoint": {"url": "https://\ud800.example"}, "events": {"types": ["*"]}},
        {"verification": {"scheme": "None"}, "event": {"type": "{" * 200}},
        {"verification": {"scheme": "None"}, "event": {"type": "a"}, "response": {"body": "\ud800"}},
    ],
    ids=lambda spec: json.dumps(spec)[:40] if not isinstance(spec, dict) or len(spec) > 1 else "nested",
)
def test_absurd_specs_disturb_no_other(spec: Any) -> None:
    """Though the definition would refuse them."""
    check_beside(spec)


def test_an_object_that_the_operator_fails_at_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what was in force of it, and says so."""
    told: list[tuple[Identity, Exception]] = []
    tried = compiler(on_defect=lambda *defect: told.append(defect))
    good = judged(tried.compile(world(subscription(), secret())))

    def broken(spec: Any, *, prefix: str = "") -> Any:
        if spec["endpoint"]["url"] == "https://defect.example":
            raise OverflowError("hidden")
        return parse_subscription(spec, prefix=prefix)

    monkeypatch.setattr("hookcast_operator.compile.parse_subscription", broken)
    edited = subscription(endpoint={"url": "https://defect.example"}, meta=generation(2))

    found = tried.compile(world(edited, subscription("other"), secret()))

    assert reasons(judged(found)) == (DEFECT, None)
    assert "OverflowError" in message(judged(found))
    assert "hidden" not in message(judged(found))
    assert (judged(found).line, judged(found).carries) == (good.line, 1)
    assert judged(found, "uid-shop-other").holds
    assert [(identity.name, type(error)) for identity, error in told] == [("orders", OverflowError)]


def test_a_secret_of_a_mebibyte_is_read() -> None:
    """One key of it is what counts."""
    found = compiler().compile(world(subscription(), secret(secret=SIGNING_SECRET, large="x" * 1_048_576)))

    assert judged(found).holds


def test_a_secret_s_content_is_in_no_message() -> None:
    """A value that does not hold is named by its place."""
    specs: list[Raw] = [
        {"endpoint": {"urlSecretRef": {"name": "s", "key": "url"}}},
        {"endpoint": {"url": "https://shop.example", "headers": [header("bad")]}},
        {"endpoint": {"url": "https://shop.example", "tls": {"caSecretRef": {"name": "s", "key": "bad"}}}},
        {"signing": {"keys": [{"secretRef": {"name": "s", "key": "bad"}}]}},
    ]
    for spec in specs:
        raws = [subscription(**spec), secret(), secret("s", url="https://10.0.0.1/hidden", bad="hidden\nhidden")]
        found = judged(compiler().compile(world(*raws)))
        assert "hidden" not in message(found), message(found)
        assert "10.0.0.1" not in message(found)


def header(key: str) -> Raw:
    return {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}
