"""From decoded documents of many files to one configuration, and what is wrong with the rest. Pure.

What does not hold is reported and left out, document by document; where there was a good version before, it stays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hookcast_app.subscriptions.manifests import Document
from hookcast_core.configuration import Configuration, Entry
from hookcast_core.documents import (
    API_VERSION,
    KIND,
    SOURCE_KIND,
    SecretDocument,
    SubscriptionDocument,
    parse_secret_document,
    parse_subscription_document,
)
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.resolve import Identity, resolve

Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a document, or a whole file (`document` is None), is not in force. `detail` holds no secret."""

    file: str
    document: int | None
    field: str | None
    reason: Reason
    detail: str

    def __str__(self) -> str:
        document = f", document {self.document}" if self.document else ""
        path = f"{self.field}: " if self.field else ""
        return f"{self.file}{document}: {path}{self.detail} ({self.reason})"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file's documents, or why it has none."""

    name: str
    documents: tuple[Document, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a directory holds: the configuration, the problems, and by UID the file that each entry came from."""

    configuration: Configuration
    problems: tuple[Problem, ...]
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Previous:
    """What was in force before; an entry whose origin is not known may have come from any file."""

    configuration: Configuration | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    index: int

    def __str__(self) -> str:
        return f"{self.file}, document {self.index}"


def compile_files(
    files: Iterable[ManifestFile],
    previous: Previous,
    generated_key: Callable[[Identity], str],
    policy: EgressPolicy,
) -> Loaded:
    """One configuration of all files. Entries keep their last good version while their document, or file, is broken."""
    return _Compilation(previous, generated_key, policy).run(files)


class _Compilation:
    """Collects documents first, since a Secret may stand after the subscription that needs it; then resolves."""

    def __init__(self, previous: Previous, generated_key: Callable[[Identity], str], policy: EgressPolicy) -> None:
        before = previous.configuration.entries if previous.configuration else ()
        self._sequence = previous.configuration.sequence if previous.configuration else 0
        self._before: dict[Name, Entry] = {(entry.namespace, entry.name): entry for entry in before}
        self._origins_before = previous.origins
        self._generated_key = generated_key
        self._policy = policy
        self._problems: list[Problem] = []
        self._subscriptions: dict[Name, tuple[_Place, SubscriptionDocument]] = {}
        self._secrets: dict[Name, tuple[_Place, dict[str, bytes]]] = {}
        self._broken_files: set[str] = set()
        self._broken: dict[Name, _Place] = {}
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}

    def run(self, files: Iterable[ManifestFile]) -> Loaded:
        for file in files:
            self._collect(file)
        for place, document in self._subscriptions.values():
            self._resolve(place, document)
        self._keep_last_good()
        entries = tuple(self._entries.values())
        unchanged = {entry.uid: entry for entry in self._before.values()} == self._entries and self._sequence > 0
        configuration = Configuration(sequence=self._sequence + (not unchanged), entries=entries)
        return Loaded(configuration, tuple(self._problems), self._origins)

    def _collect(self, file: ManifestFile) -> None:
        if file.error is not None:
            self._broken_files.add(file.name)
            self._problems.append(Problem(file.name, None, None, Reason.INVALID_SUBSCRIPTION, file.error))
        for document in file.documents:
            place = _Place(file.name, document.index)
            try:
                self._take(place, document)
            except InvalidInput as error:
                self._refuse(place, error)
                self._remember_broken(place, document.value)

    def _take(self, place: _Place, document: Document) -> None:
        value = document.value
        if document.error is not None:
            raise _invalid(None, document.error)
        if not isinstance(value, dict):
            raise _invalid(None, "a document is an object with apiVersion, kind, metadata and spec")
        match value.get("kind"):
            case "WebhookSubscription":
                self._take_subscription(place, parse_subscription_document(value))
            case "Secret":
                self._take_secret(place, parse_secret_document(value))
            case "WebhookSource":
                raise _invalid("kind", f"{SOURCE_KIND}: not served yet; remove the document")
            case kind:
                raise _invalid("kind", f"{_shown(kind)} is not known; write {KIND} ({API_VERSION}) or Secret (v1)")

    def _take_subscription(self, place: _Place, document: SubscriptionDocument) -> None:
        name = (document.metadata.namespace, document.metadata.name)
        first = self._subscriptions.get(name)
        if first is not None:
            raise _invalid("metadata.name", f"{'/'.join(name)} is already defined in {first[0]}; remove one of them")
        self._subscriptions[name] = (place, document)

    def _take_secret(self, place: _Place, document: SecretDocument) -> None:
        name = (document.metadata.namespace, document.metadata.name)
        first = self._secrets.get(name)
        if first is not None:
            raise _invalid("metadata.name", f"the Secret {'/'.join(name)} is already defined in {first[0]}")
        try:
            self._secrets[name] = (place, document.values())
        except ValueError as error:
            raise InvalidInput(Reason.INVALID_SECRET, "data", str(error)) from None

    def _resolve(self, place: _Place, document: SubscriptionDocument) -> None:
        metadata = document.metadata
        name = (metadata.namespace, metadata.name)
        try:
            entry = self._entry(document)
            if entry.uid in self._entries:
                raise _invalid("metadata.uid", f"{entry.uid} is the UID of another subscription; remove it here")
        except InvalidInput as error:
            self._refuse(place, error)
            self._broken[name] = place
        else:
            self._add(entry, place.file)

    def _entry(self, document: SubscriptionDocument) -> Entry:
        metadata = document.metadata
        before = self._before.get((metadata.namespace, metadata.name))
        if before is not None and before.uid != metadata.stable_uid:
            before = None
        generation = metadata.generation or (before.generation if before else 1)
        identity = Identity(metadata.stable_uid, generation, metadata.namespace, metadata.name, "files")
        entry = resolve(
            identity,
            document.spec,
            lambda name: self._secret(metadata.namespace, name),
            self._policy,
            self._generated_key,
            prefix="spec.",
        )
        if metadata.generation is None and before is not None and entry != before:
            return entry.model_copy(update={"generation": before.generation + 1})
        return entry

    def _secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = self._secrets.get((namespace, name))
        return found[1] if found else None

    def _keep_last_good(self) -> None:
        """Entries whose own document is broken stay as they were, and so do those of files that cannot be read."""
        in_force = {(entry.namespace, entry.name) for entry in self._entries.values()}
        for name, entry in self._before.items():
            file = None if name in in_force else self._kept_because_of(name, entry)
            if file is not None and entry.uid not in self._entries:
                self._add(entry, file)

    def _kept_because_of(self, name: Name, entry: Entry) -> str | None:
        """The broken file that an entry of before stays for, or None: then its document was removed."""
        if name in self._broken:
            return self._broken[name].file
        origin = self._origins_before.get(entry.uid)
        if origin is None:
            return min(self._broken_files, default=None)
        return origin if origin in self._broken_files else None

    def _add(self, entry: Entry, file: str) -> None:
        self._entries[entry.uid] = entry
        self._origins[entry.uid] = file

    def _refuse(self, place: _Place, error: InvalidInput) -> None:
        self._problems.append(Problem(place.file, place.index, error.field, error.reason, error.detail))

    def _remember_broken(self, place: _Place, value: Any) -> None:
        """A broken document stands for the entry that it names; without a name, for any of its file's."""
        metadata = value.get("metadata") if isinstance(value, dict) else None
        name = metadata.get("name") if isinstance(metadata, dict) else None
        namespace = metadata.get("namespace", "default") if isinstance(metadata, dict) else None
        if isinstance(name, str) and isinstance(namespace, str):
            if value.get("kind") not in {"Secret", SOURCE_KIND}:
                self._broken.setdefault((namespace, name), place)
        else:
            self._broken_files.add(place.file)


def _shown(kind: object) -> str:
    return f"the kind {kind[:64]}" if isinstance(kind, str) else "a document without a kind"


def _invalid(field: str | None, detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_SUBSCRIPTION, field, detail)
