"""Templates of webhook sources: their parts, and what is refused with which words."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.templates import (
    CHANNEL,
    MAX_REFERENCE,
    MAX_TEMPLATE,
    TYPE,
    Reference,
    parse_reference,
    parse_template,
)


def test_a_template_is_read_into_its_parts() -> None:
    """Literals and references in order; a header's name in lower case, a path into the body step by step."""
    template = parse_template("github.{header:X-GitHub-Event}.{body:commits.0.author_name}", TYPE)

    assert template.parts == (
        "github.",
        Reference("header", ("x-github-event",)),
        ".",
        Reference("body", ("commits", "0", "author_name")),
    )
    assert template.references == (template.parts[1], template.parts[3])
    assert template.literal == "github.."


def test_a_template_needs_no_reference_and_no_literal() -> None:
    """A fixed text, and references alone, side by side."""
    assert parse_template("order.created", TYPE).parts == ("order.created",)
    assert len(parse_template("{body:a}{body:b}", TYPE).references) == 2
    assert parse_template("chat:{body:room}#{body:user},ann", CHANNEL).literal == "chat:#,ann"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1 to 256 characters"),
        ("a" * (MAX_TEMPLATE + 1), "1 to 256 characters"),
        ("github.{header:X-GitHub-Event", 'the "{" at character 8 is not closed'),
        ("a}", "character 2 cannot stand in an event type"),
        ("a b", "character 2 cannot stand in an event type"),
        ("größe", "character 3 cannot stand"),
        ("a\uff5bbody:x\uff5d", "character 2 cannot stand"),
        ("a\u0000", "character 2 cannot stand"),
        ("a:b", "character 2 cannot stand"),
        ("{}", "at character 1; write {header:NAME} or {body:PATH}"),
        ("{{body:a}}", "at character 1; write {header:NAME}"),
        ("{action}", "write {header:NAME}"),
        ("{query:a}", "write {header:NAME}"),
        ("{Header:a}", "write {header:NAME}"),
        ("{header:X GitHub}", "write {header:NAME}"),
        ("{header:é}", "write {header:NAME}"),
        ("{body:}", "write {header:NAME}"),
        ("{body:a..b}", "write {header:NAME}"),
        ("{body:.a}", "write {header:NAME}"),
        ("{body:a[0]}", "write {header:NAME}"),
        ("{body:a\n}", "write {header:NAME}"),
        ("{body:" + "a" * MAX_REFERENCE + "}", "at most 128 characters"),
        ("{body:" + ".".join("a" * 17) + "}", "at most 16 keys"),
        ("{body:a}" * 9, "at most 8 references"),
        ("{header:Authorization}", "the header authorization holds a credential"),
        ("x.{header:X-Gitlab-Token}", "the header x-gitlab-token holds a credential"),
    ],
)
def test_a_wrong_template_is_refused_with_its_place(text: str, words: str) -> None:
    """The place, counted from 1, and what to write there."""
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_template(text, TYPE)


@pytest.mark.parametrize("text", ["", "{header:A}", "header", "header:", "body:a b", "header:cookie", "body:a\n"])
def test_a_wrong_reference_is_refused(text: str) -> None:
    """One reference stands without braces."""
    with pytest.raises(ValueError, match="header"):
        parse_reference(text)


def test_a_reference_stands_alone_too() -> None:
    """As an event's id is given."""
    assert parse_reference("header:webhook-id") == Reference("header", ("webhook-id",))
    assert parse_reference("body:data.object.id") == Reference("body", ("data", "object", "id"))


@given(st.text(alphabet="{}:.headrboyX-$ é\u0000", max_size=300))
def test_whatever_is_given_is_parts_or_a_refusal(text: str) -> None:
    """Nothing else comes of it, and the parts say all of the text."""
    try:
        template = parse_template(text, TYPE)
    except ValueError:
        return
    written = "".join(
        part if isinstance(part, str) else f"{{{part.kind}:{'.'.join(part.path)}}}" for part in template.parts
    )
    assert written.lower() == text.lower()


@pytest.mark.parametrize("text", ["{" * 1_000_000, "{body:a}" * 200_000, "a" * 5_000_000, "{body:" + "a." * 1_000_000])
def test_a_huge_template_is_refused_at_once(text: str) -> None:
    """Its length is looked at first."""
    began = time.perf_counter()

    with pytest.raises(ValueError, match="256"):
        parse_template(text, TYPE)

    assert time.perf_counter() - began < 0.1
