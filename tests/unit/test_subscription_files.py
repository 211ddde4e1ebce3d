"""Manifests: what is in force, what is reported, and what stays when something breaks. And the keys beside them."""

import os
import stat
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from hookcast_app.subscriptions import Loaded, generated_key, load
from hookcast_app.subscriptions.manifests import MAX_BYTES, Document, InvalidManifest, parse_documents
from hookcast_core.configuration import Configuration
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.resolve import Identity
from hookcast_core.signing import parse_secret

KEY = "whsec_" + b64encode(bytes(32)).decode()
SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
POLICY = EgressPolicy(["127.0.0.1:9000"])


def subscription(name: str = "orders", *, url: str = "https://shop.example/hooks", more: str = "") -> str:
    """A document."""
    return (
        dedent(f"""\
        apiVersion: hookcast.dev/v1alpha1
        kind: WebhookSubscription
        metadata: {{name: {name}}}
        spec:
          endpoint: {{url: "{url}"}}
          events: {{types: ["order.*"]}}
        """)
        + more
    )


def read(directory: Path, previous: Loaded | Configuration | None = None) -> Loaded:
    """Loads, with a key that is always the same."""
    if isinstance(previous, Loaded):
        return load(directory, previous.configuration, lambda _: KEY, POLICY, previous.origins)
    return load(directory, previous, lambda _: KEY, POLICY)


def names(loaded: Loaded) -> list[str]:
    """Who is in force."""
    return sorted(f"{entry.namespace}/{entry.name}" for entry in loaded.configuration.entries)


def test_the_samples_are_valid() -> None:
    """What a newcomer starts with has no problems, and its Secret signs."""
    loaded = read(SAMPLES)

    assert loaded.problems == ()
    assert names(loaded) == ["default/big-orders", "default/orders"]
    big = next(entry for entry in loaded.configuration.entries if entry.name == "big-orders")
    assert parse_secret(big.signing_keys[0].secret.get_secret_value()).can_sign
    assert big.spec.events.filter == "data.amount > 100"


def test_an_empty_directory_is_an_empty_configuration(tmp_path: Path) -> None:
    """Other files, directories and hidden files are passed over."""
    (tmp_path / "README.md").write_text("not: yaml: at all")
    (tmp_path / ".orders.yaml").write_text(subscription())
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "empty.yaml").write_text("# nothing\n---\n---\n# nothing\n...\n")

    loaded = read(tmp_path)

    assert loaded.configuration.entries == ()
    assert loaded.problems == ()
    assert loaded.configuration.sequence == 1


def test_an_unreadable_directory_is_named(tmp_path: Path) -> None:
    """Whoever mistyped the option reads what they typed."""
    with pytest.raises(InvalidInput, match="nowhere") as caught:
        read(tmp_path / "nowhere")

    assert caught.value.field == "manifests"


def test_what_is_no_file_is_told_and_waits_for_nobody(tmp_path: Path) -> None:
    """A named pipe would block whoever opens it; the files beside it are read."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "good.yaml").write_text(subscription())

    loaded = read(tmp_path)

    assert names(loaded) == ["default/orders"]
    assert [str(problem) for problem in loaded.problems] == ["pipe.yaml: is not a regular file (InvalidSubscription)"]


def test_documents_refer_to_secrets_of_other_files(tmp_path: Path) -> None:
    """A Secret may stand anywhere, in the subscription's namespace; no label is needed."""
    signing = "  signing: {keys: [{secretRef: {name: keys, key: new}}]}\n"
    (tmp_path / "a.yaml").write_text(subscription(more=signing))
    secret = (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\ndata: {{new: {b64encode(KEY.encode()).decode()}}}\n"
    )
    (tmp_path / "b.yml").write_text(secret)

    loaded = read(tmp_path)

    assert loaded.problems == ()
    assert loaded.configuration.entries[0].signing_keys[0].secret.get_secret_value() == KEY

    (tmp_path / "b.yml").write_text(secret.replace("name: keys", "name: keys, namespace: other"))
    assert [problem.reason for problem in read(tmp_path).problems] == [Reason.SECRET_NOT_FOUND]


def test_a_problem_names_file_document_field_and_reason(tmp_path: Path) -> None:
    """And the others of the same file are in force."""
    bad = subscription("bad").replace("types:", "tpyes:")
    (tmp_path / "a.yaml").write_text(f"# first\n---\n{subscription('good')}---\n{bad}---\n{subscription('fine')}")

    loaded = read(tmp_path)

    assert names(loaded) == ["default/fine", "default/good"]
    (problem,) = loaded.problems
    assert (problem.file, problem.document, problem.reason) == ("a.yaml", 2, Reason.INVALID_SUBSCRIPTION)
    assert str(problem).startswith("a.yaml, document 2: spec.events.types: ")


@pytest.mark.parametrize(
    ("document", "field", "detail"),
    [
        ("kind: ConfigMap\napiVersion: v1", "kind", "the kind ConfigMap is not known"),
        ("kind: WebhookSource\nmetadata: {name: a}", "kind", "WebhookSource: not served yet"),
        ("metadata: {name: a}", "kind", "a document without a kind is not known"),
        ("just text", None, "a document is an object"),
        ("[1, 2]", None, "a document is an object"),
        (subscription().replace("v1alpha1", "v2"), "apiVersion", "hookcast.dev/v1alpha1"),
        (subscription(url="https://10.0.0.1/"), "spec.endpoint.url", "10.0.0.0/8"),
        (subscription(more="  filter: data.amount >\n"), "spec.filter", "no such field"),
        (subscription(more="signing: {}\n"), "signing", "no such field"),
        ("a: b: c", None, "line 1: mapping values are not allowed"),
        ("a: [1", None, "line"),
        ("a: 1\na: 2", None, "line 2: the key a is there twice"),
        ("? [a]\n: 1", None, "line 1: a key has to be a text"),
        ("a: !!python/object/apply:os.system ['true']", None, "line 1: could not determine a constructor"),
        ("a: *nobody", None, "line 1: an alias names nothing"),
        ("a: &a [*a]", None, "line 1: an alias names nothing"),
        ("a: " + "[" * 100_000, None, "line 1: more than"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, None, "line 1: more than"),
        ("\n".join(f"- {n}" for n in range(50_001)), None, "more than 50000 values"),
        ("a: \x01", None, "not YAML"),
        ("a: " + "9" * 5_000, None, "not YAML"),
        ("kind: Secret\napiVersion: v1\nmetadata: {name: a}\ndata: {k: '%'}", "data", "data.k is not base64"),
        ("kind: Secret\napiVersion: v1\nmetadata: {name: a}\ndata: text", "data", "dictionary"),
    ],
)
def test_a_broken_document_leaves_the_others(tmp_path: Path, document: str, field: str | None, detail: str) -> None:
    """Wrong, hostile or unknown: it is reported and the good one beside it is in force."""
    (tmp_path / "a.yaml").write_text(f"{document}\n---\n{subscription('good')}")

    loaded = read(tmp_path)

    assert names(loaded) == ["default/good"]
    (problem,) = loaded.problems
    assert (problem.file, problem.document) == ("a.yaml", 1)
    assert detail in problem.detail
    assert field is None or str(problem.field).startswith(field)


def test_a_billion_laughs_are_refused(tmp_path: Path) -> None:
    """Aliases are counted written out, before anything is built; a few of them are fine."""
    laughs = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (tmp_path / "a.yaml").write_text("\n".join(laughs))
    anchored = subscription(more="  suspend: &no false\n").replace('["order.*"]', '[&t "order.*", "user.*", *t]')
    (tmp_path / "b.yaml").write_text(anchored)

    loaded = read(tmp_path)

    assert [problem.file for problem in loaded.problems] == ["a.yaml"]
    assert loaded.configuration.entries[0].spec.events.types == ("order.*", "user.*", "order.*")


def test_line_numbers_are_the_files() -> None:
    """Not the document's: an editor can jump there."""
    documents = list(parse_documents(b"a: 1\n---\nb: 1\n---\nc: 1\nc: 2\n"))

    assert documents[:2] == [Document(1, {"a": 1}), Document(2, {"b": 1})]
    assert documents[2].error == "line 6: the key c is there twice"


def test_times_stay_texts() -> None:
    """YAML's own times would lose how they were written."""
    (document,) = parse_documents(
        b"\xef\xbb\xbf%YAML 1.1\n--- # comment\nat: 2027-01-31T00:00:00Z\nday: 2027-01-31\n...\n"
    )

    assert document.value == {"at": "2027-01-31T00:00:00Z", "day": "2027-01-31"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (MAX_BYTES + 1)])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    """Not even documents can be told apart."""
    with pytest.raises(InvalidManifest):
        list(parse_documents(content))


def test_a_second_definition_names_the_first(tmp_path: Path) -> None:
    """Of subscriptions and Secrets alike; the first stays in force."""
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {a: b}\n"
    (tmp_path / "a.yaml").write_text(f"{secret}---\n{subscription(url='https://first.example')}")
    (tmp_path / "b.yaml").write_text(f"{subscription(url='https://second.example')}---\n{secret}")

    loaded = read(tmp_path)

    assert [entry.url for entry in loaded.configuration.entries] == ["https://first.example/"]
    assert [problem.field for problem in loaded.problems] == ["metadata.name", "metadata.name"]
    assert "already defined in a.yaml, document 2" in loaded.problems[0].detail
    assert "already defined in a.yaml, document 1" in loaded.problems[1].detail


def test_a_uid_given_twice_is_a_problem(tmp_path: Path) -> None:
    """Two subscriptions would share their deliveries; the first stays."""
    (tmp_path / "a.yaml").write_text(
        subscription("one").replace("name: one", "name: one, uid: u1")
        + "---\n"
        + subscription("two").replace("name: two", "name: two, uid: u1")
    )

    loaded = read(tmp_path)

    assert names(loaded) == ["default/one"]
    assert [problem.field for problem in loaded.problems] == ["metadata.uid"]


def test_generation_and_sequence_rise_with_changes_only(tmp_path: Path) -> None:
    """The same files are the same configuration; a changed subscription is a new generation of it alone."""
    file = tmp_path / "a.yaml"
    file.write_text(subscription("one") + "---\n" + subscription("two"))
    first = read(tmp_path)

    same = read(tmp_path, first)
    file.write_text(subscription("one") + "---\n" + subscription("two", url="https://new.example"))
    changed = read(tmp_path, same)

    assert same.configuration == first.configuration
    assert changed.configuration.sequence == 2
    assert {entry.name: entry.generation for entry in changed.configuration.entries} == {"one": 1, "two": 2}
    assert {entry.uid for entry in changed.configuration.entries} == {
        entry.uid for entry in first.configuration.entries
    }


def test_generations_that_are_given_are_kept(tmp_path: Path) -> None:
    """Manifests written out of a cluster carry their own; another UID is another subscription."""
    file = tmp_path / "a.yaml"
    file.write_text(subscription().replace("name: orders", "name: orders, generation: 7"))
    first = read(tmp_path)
    file.write_text(subscription().replace("name: orders", "name: orders, uid: another"))

    second = read(tmp_path, first)

    assert [entry.generation for entry in first.configuration.entries] == [7]
    assert [(entry.uid, entry.generation) for entry in second.configuration.entries] == [("another", 1)]


def test_a_removed_document_removes_its_subscription(tmp_path: Path) -> None:
    """With its file, or from it."""
    (tmp_path / "a.yaml").write_text(subscription("one") + "---\n" + subscription("two"))
    (tmp_path / "b.yaml").write_text(subscription("three"))
    first = read(tmp_path)

    (tmp_path / "a.yaml").write_text(subscription("one"))
    (tmp_path / "b.yaml").unlink()

    assert names(read(tmp_path, first)) == ["default/one"]


def test_a_document_of_another_kind_keeps_no_subscription(tmp_path: Path) -> None:
    """A webhook source is refused; the subscription with its name is gone once its own document is."""
    other = "kind: WebhookSource\nmetadata: {name: one}\n"
    (tmp_path / "a.yaml").write_text(f"{subscription('one')}---\n{other}")
    first = read(tmp_path)

    (tmp_path / "a.yaml").write_text(other)

    assert names(first) == ["default/one"]
    assert names(read(tmp_path, first)) == []


BREAKAGES: list[Callable[[Path], object]] = [
    lambda file: file.write_text(subscription("one").replace("types:", "tpyes:")),
    lambda file: file.write_text(subscription("one", more="  signing: {keys: [{secretRef: {name: no, key: no}}]}\n")),
    lambda file: file.write_text("metadata: {name: one}\nkind: WebhookSubscription\nspec: 5"),
    lambda file: file.write_text("kind: [broken"),
    lambda file: file.write_text(subscription("one").replace("kind: Web", "kind: Wed")),
    lambda file: file.write_text("metadata: nothing"),
    lambda file: file.write_bytes(b"\xff\xfe"),
    lambda file: file.write_bytes(b" " * (MAX_BYTES + 1)),
    lambda file: file.rename(file.with_name("gone")).with_name("a.yaml").symlink_to("nowhere"),
]


@pytest.mark.parametrize("break_it", BREAKAGES)
@pytest.mark.parametrize("knows_origins", [True, False])
def test_the_last_good_version_stays(
    tmp_path: Path,
    break_it: Callable[[Path], object],
    knows_origins: bool,  # noqa: FBT001
) -> None:
    """Whatever happens to a file, its subscriptions go on as they were, and work again once it is repaired."""
    file = tmp_path / "a.yaml"
    file.write_text(subscription("one"))
    (tmp_path / "b.yaml").write_text(subscription("other"))
    good = read(tmp_path)

    break_it(file)
    broken = read(tmp_path, good if knows_origins else good.configuration)
    still = read(tmp_path, broken)
    file.unlink()
    file.write_text(subscription("one", url="https://repaired.example"))
    repaired = read(tmp_path, still)

    assert [problem.file for problem in broken.problems] == ["a.yaml"]
    assert broken.configuration == good.configuration
    assert still.configuration == good.configuration
    assert repaired.problems == ()
    assert {entry.name: entry.generation for entry in repaired.configuration.entries} == {"one": 2, "other": 1}


def test_a_broken_file_keeps_only_its_own(tmp_path: Path) -> None:
    """What is removed from another file meanwhile is gone, and what moved to another file is taken from there."""
    (tmp_path / "a.yaml").write_text(subscription("one") + "---\n" + subscription("moves"))
    (tmp_path / "b.yaml").write_text(subscription("two"))
    good = read(tmp_path)

    (tmp_path / "a.yaml").write_text("kind: [broken")
    (tmp_path / "b.yaml").write_text(subscription("moves", url="https://moved.example"))
    broken = read(tmp_path, good)

    assert names(broken) == ["default/moves", "default/one"]
    assert {entry.url for entry in broken.configuration.entries} == {
        "https://shop.example/hooks",
        "https://moved.example/",
    }


def test_a_broken_document_keeps_no_neighbour(tmp_path: Path) -> None:
    """A document that still says its name stands for itself alone: its removed neighbour is removed."""
    (tmp_path / "a.yaml").write_text(subscription("one") + "---\n" + subscription("two"))
    good = read(tmp_path)

    (tmp_path / "a.yaml").write_text(subscription("one").replace("types:", "tpyes:"))

    assert names(read(tmp_path, good)) == ["default/one"]


IDENTITY = Identity("u", 1, "shop", "orders", "files")


def test_a_generated_key_is_kept_in_a_private_file(tmp_path: Path) -> None:
    """Made once with mode 0600 in a directory 0700, the same ever after, also for another process."""
    first = generated_key(tmp_path / "data")(IDENTITY)

    file = tmp_path / "data" / "webhook-secrets" / "shop.orders"
    assert generated_key(tmp_path / "data")(IDENTITY) == first
    assert file.read_text() == first + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_the_first_of_two_processes_wins(tmp_path: Path) -> None:
    """A key that appears while ours is being made is the one that is used: both processes sign with it."""

    def slow() -> str:
        (tmp_path / "webhook-secrets").mkdir()
        (tmp_path / "webhook-secrets" / "shop.orders").write_text(KEY)
        return "whsec_" + b64encode(bytes(range(32))).decode()

    assert generated_key(tmp_path, slow)(IDENTITY) == KEY
    assert list((tmp_path / "webhook-secrets").iterdir()) == [tmp_path / "webhook-secrets" / "shop.orders"]


@pytest.mark.parametrize(
    ("namespace", "name"), [("..", "orders"), ("a.b", "c"), ("a", "../b"), ("a", "b/c"), ("a" * 60, "b" * 250)]
)
def test_no_name_leaves_the_directory(tmp_path: Path, namespace: str, name: str) -> None:
    """Names are checked here again, whoever calls."""
    with pytest.raises(InvalidInput):
        generated_key(tmp_path)(Identity("u", 1, namespace, name, "files"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "secret", "whsec_AAAA", "whsec_AA AA", "\udcff"])
def test_a_damaged_key_is_not_replaced(tmp_path: Path, content: str) -> None:
    """Receivers hold the old one: a new one would silently fail there. The message does not show it."""
    file = tmp_path / "webhook-secrets" / "shop.orders"
    file.parent.mkdir()
    file.write_text(content, errors="surrogateescape")

    with pytest.raises(InvalidInput) as caught:
        generated_key(tmp_path)(IDENTITY)

    assert caught.value.reason is Reason.INVALID_SECRET
    assert file.read_text(errors="surrogateescape") == content


def test_a_directory_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    """Of the subscription that needs the key, naming the path; the others are in force."""
    (tmp_path / "data").write_text("a file, not a directory")
    (tmp_path / "a.yaml").write_text(subscription())

    loaded = load(tmp_path, None, generated_key(tmp_path / "data"), POLICY)

    assert loaded.configuration.entries == ()
    assert "webhook-secrets/default.orders" in loaded.problems[0].detail
