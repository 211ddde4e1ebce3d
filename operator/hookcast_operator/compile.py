"""From objects and Secrets to the lines of a configuration, and what is to be said of each object. Pure.

An object that does not hold keeps its last good line in force; another object's is never touched by it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hookcast_core.configuration import SigningKey
from hookcast_core.document import Document, encode_line, identify, parse_entry, parse_source
from hookcast_core.egress import EgressPolicy, parse_url
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.paths import Claim, share
from hookcast_core.resolve import Identity as CoreIdentity
from hookcast_core.resolve import SecretNotAllowed, resolve, resolve_source
from hookcast_core.source import parse_webhook_source
from hookcast_core.subscription import parse_subscription
from hookcast_operator.objects import CustomObject, Identity, Kind, Name, SecretObject, enabled_at

GENERATED_KEY = "secret"
"""The key of a generated Secret's data."""
PENDING = "Pending"
"""The reason of what passes by itself."""
DEFECT = "InternalError"
"""The reason of what the operator failed at."""
_OF_REFERENCES = frozenset(
    {Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_NOT_FOUND, Reason.SECRET_NOT_ALLOWED, Reason.INVALID_SECRET}
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something does not hold, as one word and as a sentence that names the field and what to write instead."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a compilation found of one object.

    `line` is what the configuration holds of it, and `carries` the generation that the line is of: an older one while
    the newest does not hold, None while there was never a good one. `missing` are Secrets that were looked for in vain,
    `hidden` those of them that were known to be there, but not to be used.
    """

    identity: Identity
    accepted: Refusal | None
    resolved: Refusal | None
    line: bytes | None = field(repr=False)
    carries: int | None
    suspended: bool = False
    endpoint: str | None = None
    path: str | None = None
    signing_secret: str | None = None
    wants_secret: "WantedSecret | None" = None
    missing: frozenset[Name] = frozenset()
    hidden: frozenset[Name] = frozenset()

    @property
    def holds(self) -> bool:
        """Whether the newest generation is what the configuration holds."""
        return self.accepted is None and self.resolved is None and self.carries == self.identity.generation

    @property
    def lacks_secrets(self) -> bool:
        """Whether it waits for others to make Secrets, or to allow or mend them."""
        return self.resolved is not None and self.wants_secret is None

    def refused(self, refusal: Refusal, line: bytes | None) -> "Judgement":
        """As it is where the generation cannot be taken for another's sake, and `line` stays in force."""
        return replace(
            self,
            accepted=refusal,
            line=line,
            carries=_generation(line),
            endpoint=None,
            path=None,
            signing_secret=None,
        )


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A signing Secret that is to be made. `key` is what it held before it was lost, or None for a fresh one."""

    name: str
    owner: Identity
    retained: bool
    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a compilation looks at. `hidden` are Secrets that exist and may not be used.

    Of `unlisted` namespaces it is not known which objects they have.
    """

    objects: Mapping[str, CustomObject]
    secrets: Mapping[Name, SecretObject]
    hidden: Collection[Name]
    namespace_is_allowed: Callable[[str], bool]
    unlisted: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Compiled:
    """Judgements by UID, and the objects that name another dispatcher."""

    judgements: Mapping[str, Judgement]
    foreign: tuple[CustomObject, ...]
    read: frozenset[Name]
    """Every Secret that was looked for, whether or not it is there."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a judgement followed from: the same inputs give the same one."""

    version: tuple[int, str | None, bool]
    secrets: tuple[tuple[Name, int | None, bool], ...]


class Compiler:
    """Remembers the last judgement of every object, so that only what changed is compiled. One thread at a time.

    `on_defect` is told what an object's judgement failed with that is none of its own mistakes.
    """

    def __init__(
        self,
        *,
        dispatcher: str,
        policy: EgressPolicy,
        every_secret: bool,
        generate_in: Collection[str],
        stored: Document | None = None,
        on_defect: Callable[[Identity, Exception], None],
    ) -> None:
        self._on_defect = on_defect
        self._dispatcher = dispatcher
        self._policy = policy
        self._every_secret = every_secret
        self._generate_in = frozenset(generate_in)
        self._known: dict[str, tuple[_Inputs, Judgement]] = {}
        self._last_good = {} if stored is None else _judgements_of(stored)
        self._unseen = set(self._last_good)
        self._paths: dict[bytes, str | None] = {}
        self._late: dict[str, Judgement] = {}

    def compile(self, world: World) -> Compiled:
        """Judges every object of this dispatcher."""
        known: dict[str, tuple[_Inputs, Judgement]] = {}
        foreign = []
        for uid, found in world.objects.items():
            if found.deleting:
                continue
            if found.dispatcher != self._dispatcher:
                foreign.append(found)
                continue
            before = self._known.get(uid)
            is_same = before is not None and before[0] == self._inputs(
                found, world, (name for name, *_ in before[0].secrets)
            )
            known[uid] = before if before is not None and is_same else self._judge(found, world)
        self._known = known
        judgements = {uid: judged for uid, (_, judged) in known.items()}
        self._unseen -= world.objects.keys()
        judgements = {judged.identity.uid: judged for judged in self._unknown(world)} | judgements
        judgements |= self._late_ones(judgements)
        self._last_good = {uid: judged for uid, judged in judgements.items() if judged.line is not None}
        read = frozenset(name for inputs, _ in known.values() for name, *_ in inputs.secrets)
        return Compiled(judgements, tuple(foreign), read)

    def stored(self, judgements: Mapping[str, Judgement]) -> None:
        """Takes what was stored of the last compilation: that is what is in force."""
        self._last_good = {uid: judged for uid, judged in judgements.items() if judged.line is not None}

    def _unknown(self, world: World) -> Iterable[Judgement]:
        """What was in force before this process, and of which it has not seen whether it is still there."""
        unseen = (judged for uid, judged in self._last_good.items() if uid in self._unseen)
        return (
            judged
            for judged in unseen
            if judged.identity.namespace in world.unlisted and world.namespace_is_allowed(judged.identity.namespace)
        )

    def _late_ones(self, judgements: Mapping[str, Judgement]) -> Mapping[str, Judgement]:
        """The sources whose path another has: refused, and kept as they were last."""
        sources = sorted(
            (judged for judged in judgements.values() if judged.identity.kind == "WebhookSource"),
            key=lambda judged: (judged.identity.created, judged.identity.uid),
        )
        wanted = {judged.identity.uid: judged.line for judged in sources if judged.line is not None}
        last_good = ((uid, self._last_good.get(uid)) for uid in wanted)
        before = {uid: judged.line for uid, judged in last_good if judged is not None and judged.line is not None}
        lines = {*wanted.values(), *before.values()}
        self._paths = {line: self._paths[line] if line in self._paths else path_of_line(line) for line in lines}
        owners, late = share(
            [Claim(uid, path) for uid, line in wanted.items() if (path := self._paths[line]) is not None],
            {uid: path for uid, line in before.items() if (path := self._paths[line]) is not None},
        )
        found, having = {}, set(owners.values())
        for uid, path in late.items():
            judged = judgements[uid]
            line = before[uid] if uid in having else None
            refusal = judged.accepted or _path_taken(path, judged.identity, judgements[owners[path]].identity)
            refused = judged.refused(refusal, line)
            known = self._late.get(uid)
            found[uid] = known if known == refused and known is not None else refused
        self._late = found
        return found

    def _inputs(self, found: CustomObject, world: World, names: Iterable[Name]) -> _Inputs:
        identity = found.identity
        return _Inputs(
            (identity.generation, found.enable, world.namespace_is_allowed(identity.namespace)),
            tuple((name, _version(world.secrets.get(name)), name in world.hidden) for name in names),
        )

    def _judge(self, found: CustomObject, world: World) -> tuple[_Inputs, Judgement]:
        secrets = _Secrets(found.identity.namespace, world, every=self._every_secret)
        judgement = self._judged(found, world, secrets)
        missing = secrets.missing
        judgement = replace(judgement, missing=missing, hidden=missing.intersection(world.hidden))
        return self._inputs(found, world, sorted(secrets.read)), judgement

    def _judged(self, found: CustomObject, world: World, secrets: "_Secrets") -> Judgement:
        identity = found.identity
        if not world.namespace_is_allowed(identity.namespace):
            message = f"the dispatcher takes no objects of the namespace {identity.namespace}"
            refusal = Refusal(
                Reason.NAMESPACE_NOT_ALLOWED, f"{message}; its installation's allowedNamespaces says which"
            )
            return Judgement(identity, refusal, None, None, None)
        before = self._last_good.get(identity.uid)
        line, carries = (before.line, before.carries) if before else (None, None)
        suspended = isinstance(found.spec, dict) and found.spec.get("suspend") is True
        kept = Judgement(identity, None, None, line, carries, suspended=suspended)
        try:
            if identity.kind == "WebhookSource":
                return self._source(found, kept, secrets)
            return self._subscription(found, kept, secrets)
        except InvalidInput as error:
            refusal = Refusal(error.reason if secrets.wanted is None else PENDING, str(error))
            if error.reason in _OF_REFERENCES:
                return replace(kept, resolved=refusal, wants_secret=secrets.wanted)
            return replace(kept, accepted=refusal)
        except Exception as error:  # noqa: BLE001  one object must not stop the others
            self._on_defect(identity, error)
            detail = f"the operator failed to judge this ({type(error).__name__}); its log says where: please report it"
            return replace(kept, accepted=Refusal(DEFECT, detail))

    def _subscription(self, found: CustomObject, kept: Judgement, secrets: "_Secrets") -> Judgement:
        spec = parse_subscription(found.spec, prefix="spec.")
        generated_name = f"{found.identity.name}-webhook-secret"

        def generated_key(_: CoreIdentity) -> str:
            may = found.identity.namespace in self._generate_in
            retained = spec.signing.generated_secret == "Retain"  # noqa: S105  a word
            return secrets.generated(generated_name, kept, may=may, retained=retained)

        entry = resolve(
            _core(found.identity), spec, secrets.read_data, self._policy, generated_key, prefix="spec."
        ).model_copy(update={"enabled_at": enabled_at(found.enable)})
        return replace(
            kept,
            line=encode_line(entry),
            carries=found.identity.generation,
            endpoint=None if spec.endpoint.url is None else parse_url(entry.url).host,
            signing_secret=None if spec.signing.keys else generated_name,
        )

    def _source(self, found: CustomObject, kept: Judgement, secrets: "_Secrets") -> Judgement:
        spec = parse_webhook_source(found.spec, prefix="spec.")
        entry = resolve_source(_core(found.identity), spec, secrets.read_data, prefix="spec.")
        return replace(kept, line=encode_line(entry), carries=found.identity.generation, path=entry.path)


class _Secrets:
    """One object's view of the Secrets of its namespace; remembers which were looked at."""

    def __init__(self, namespace: str, world: World, *, every: bool) -> None:
        self._namespace = namespace
        self._world = world
        self._every = every
        self.read: set[Name] = set()
        self.wanted: WantedSecret | None = None

    @property
    def missing(self) -> frozenset[Name]:
        """Those that are not there, or may not be used."""
        return frozenset(name for name in self.read if name not in self._world.secrets)

    def read_data(self, name: str) -> Mapping[str, bytes] | None:
        """The data of a Secret that may be used; None if there is none. Raises SecretNotAllowed."""
        found = self._look(name)
        if found is None:
            if (self._namespace, name) in self._world.hidden:
                raise SecretNotAllowed
            return None
        if not (found.is_allowed or self._every):
            raise SecretNotAllowed
        return found.data

    def generated(self, name: str, kept: Judgement, *, may: bool, retained: bool) -> str:
        """The key in the generated Secret; InvalidInput where it is not there, with `wanted` set if it may be made."""
        found = self._look(name)
        if found is not None:
            return _generated_key(found, kept.identity)
        if (self._namespace, name) in self._world.hidden:
            raise _not_ours(name)
        if not may:
            raise InvalidInput(
                Reason.SECRET_NOT_FOUND,
                "spec.signing.keys",
                "names no key, and none is generated in this namespace; make a Secret with one and name it here "
                "(or list the namespace under generateSecrets.namespaces of the installation)",
            )
        self.wanted = WantedSecret(name, kept.identity, retained, _key_of(kept.line))
        raise InvalidInput(Reason.SECRET_NOT_FOUND, "spec.signing.keys", f"the Secret {name} is being generated")

    def _look(self, name: str) -> SecretObject | None:
        self.read.add((self._namespace, name))
        return self._world.secrets.get((self._namespace, name))


def _judgements_of(stored: Document) -> dict[str, Judgement]:
    """By UID, as good as can be said of what is known by its lines alone."""
    kinds: tuple[tuple[Kind, tuple[bytes, ...]], ...] = (
        ("WebhookSubscription", stored.entries),
        ("WebhookSource", stored.sources),
    )
    return {
        found.uid: Judgement(
            Identity(kind, found.uid, found.generation, found.namespace, found.name, created=""),
            None,
            None,
            line,
            found.generation,
        )
        for kind, lines in kinds
        for line in lines
        if (found := identify(line)) is not None
    }


def _generated_key(found: SecretObject, owner: Identity) -> str:
    is_ours = found.generated_for == owner.name and (not found.owners or owner.uid in found.owners)
    if not is_ours:
        raise _not_ours(found.name)
    try:
        return found.data[GENERATED_KEY].decode()
    except (KeyError, UnicodeDecodeError):
        detail = f"the generated Secret {found.name} has no text under {GENERATED_KEY}; delete it to have it made anew"
        raise InvalidInput(Reason.INVALID_SECRET, "spec.signing.keys", detail) from None


def _not_ours(name: str) -> InvalidInput:
    return InvalidInput(
        Reason.SECRET_NOT_ALLOWED,
        "spec.signing.keys",
        f"names no key, and the Secret {name} exists but was not generated for this subscription; "
        "name a key here, or remove that Secret",
    )


def _key_of(line: bytes | None) -> str | None:
    """The generated key that the last good line was signed with: a lost Secret is made again with the same key."""
    try:
        entry = None if line is None else parse_entry(line)
    except InvalidInput:
        return None
    if entry is None or entry.spec.signing.keys or not entry.signing_keys:
        return None
    key: SigningKey = entry.signing_keys[0]
    return key.secret.get_secret_value()


def path_of_line(line: bytes) -> str | None:
    """The path of a webhook source's line; None if it cannot be read."""
    try:
        return parse_source(line).path
    except InvalidInput:  # stored by a newer operator
        return None


def _path_taken(path: str, loser: Identity, owner: Identity) -> Refusal:
    """Names the other by what whoever may read this object knows anyway: not what is in another namespace."""
    whose = owner.name if owner.namespace == loser.namespace else "a source of another namespace"
    return Refusal(Reason.PATH_TAKEN, f"spec.path: /webhooks/{path} belongs to {whose}; choose another path")


def _generation(line: bytes | None) -> int | None:
    found = None if line is None else identify(line)
    return None if found is None else found.generation


def _version(found: SecretObject | None) -> int | None:
    return None if found is None else found.version


def _core(identity: Identity) -> CoreIdentity:
    return CoreIdentity(identity.uid, identity.generation, identity.namespace, identity.name, "kubernetes")
