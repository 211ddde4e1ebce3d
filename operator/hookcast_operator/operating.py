"""Puts the parts together: who feeds whom, in which order they begin, and that the end of one is the end of all."""

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import structlog

from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import Reason
from hookcast_core.sealing import Sealer
from hookcast_operator import handlers
from hookcast_operator.api import Api, Raw, path_of, persist
from hookcast_operator.compile import Compiler, Judgement, Refusal
from hookcast_operator.conditions import Facts, condition
from hookcast_operator.errors import ApiRefused, ApiUnavailable
from hookcast_operator.events import EventPoster
from hookcast_operator.generated import SecretMaker
from hookcast_operator.health import Health
from hookcast_operator.lease import Lease
from hookcast_operator.ledger import Ledger
from hookcast_operator.metrics import Metrics
from hookcast_operator.missed import MissedSecrets
from hookcast_operator.news import News
from hookcast_operator.objects import CustomObject, Identity, Name, custom_object
from hookcast_operator.observed import Observed
from hookcast_operator.pods import PodState, pods_of
from hookcast_operator.push import Pusher
from hookcast_operator.reconcile import Reconciler
from hookcast_operator.settings import Settings
from hookcast_operator.status import Known, StatusWriter
from hookcast_operator.store import ConfigurationStore, Published
from hookcast_operator.waiting import wait_for
from hookcast_operator.watches import Watches
from hookcast_operator.wellbeing import Wellbeing

RESYNC_SECONDS = 300.0
"""Between two whole lists, whatever the watches say."""
SLICES_SECONDS = 60
"""A watch of the pods' addresses lasts this long at most, and every one begins with a list."""
NOT_SERVED_AT_ONCE = 50
"""Events about objects that nobody serves, after each list: users of other objects wait for theirs."""
UNSERVED_SECONDS = 60
"""An object of another dispatcher that nobody has written a status for by then is served by nobody."""
UNREACHABLE_SECONDS = 15.0
"""Without an answer of the API server for so long the operator is not ready."""
RETRY_SECONDS = 1.0
REFUSED_SECONDS = 15.0
"""Before what the API server does not allow is asked for again."""
NAMED_DISPATCHERS = 20
"""In metrics: users choose these names, and each is a series."""
BETWEEN_SECONDS = 0.1
"""Between two watches of the pods: one that is cut at once must not be a busy loop."""

_log = structlog.get_logger("hookcast.operator")


class Operator:
    """What runs while the lease is held; lives from then until the process ends."""

    def __init__(
        self,
        settings: Settings,
        api: Api,
        session: aiohttp.ClientSession,
        lease: Lease,
        sealer: Sealer,
        health: Health,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._api = api
        self._lease = lease
        self._metrics = metrics
        self._resync = asyncio.Event()
        self._wellbeing = Wellbeing()
        self._told_unserved: set[tuple[str, int]] = set()
        self._events = EventPoster(api, instance=settings.pod_name, on_told=metrics.told)
        self._observed = Observed(
            settings,
            on_object=lambda _uid: self._reconciler.changed(),
            on_secret=lambda name: self._reconciler.secret_changed(name),  # noqa: PLW0108  it is made later
            on_namespace=lambda _name: self._reconciler.changed(),
            on_status=lambda uid: self._statuses.look([uid]),
        )
        self._watches = Watches(
            on_list=self._resync.set, on_restart=metrics.watch_restarted, is_known=self._observed.knows
        )
        self._store = ConfigurationStore(
            api, sealer, release=settings.release, namespace=settings.namespace, may_write=lease.check
        )
        self._pusher = Pusher(
            session,
            self._wellbeing,
            on_pods=self._pods_changed,
            on_wellbeing=lambda uids: self._statuses.look(uids),  # noqa: PLW0108  as above
            on_later=lambda version: self._reconciler.surpass(version),  # noqa: PLW0108  as above
        )
        self._statuses = StatusWriter(
            api,
            known=self._known,
            written=self._written,
            tell=self._events.tell,
            may_write=lease.check,
            turn=lambda: self._reconciler.rests.wait(),  # noqa: PLW0108  as above
        )
        self._maker = SecretMaker(
            api,
            may_write=lease.check,
            made=self._observed.secrets.saw,
            hidden=self._hide,
            failed=lambda uid: self._statuses.look([uid]),
        )
        self._missed = MissedSecrets(api, found=self._hide, absent=self._show, looked=self._looked_for)
        self._ledger = Ledger()
        self._health = health

    async def run(self, started: Callable[[], None]) -> None:
        """Works until cancelled, or until something dies. `started` is called when kopf runs."""
        self._reconciler = await self._start()
        self._offer_metrics()
        self._check_health()
        remove = self._watches.install()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    "reconciler": self._reconciler.run(),
                    "pusher": self._pusher.run(),
                    "pods": self._follow_pods(),
                    "statuses": self._statuses.run(),
                    "signing secrets": self._maker.run(),
                    "missed secrets": self._missed.run(),
                    "events": self._events.run(),
                    "resync": self._keep_listing(),
                    "kopf": handlers.watch(self._settings, self._api, self._observed, started),
                }
                for name, work in tasks.items():
                    group.create_task(work, name=name)
                self._reconciler.changed()
        finally:
            remove()

    async def _start(self) -> Reconciler:
        """Reads what was stored and what there is, before anything is written."""
        document = await persist(self._store.read)
        self._ledger = Ledger(self._store.stored.document if self._store.stored else None)
        settings = self._settings
        compiler = Compiler(
            dispatcher=settings.dispatcher_name,
            policy=EgressPolicy(settings.egress_allow),
            every_secret=settings.takes_every_secret,
            generate_in=settings.generate_secrets_in,
            stored=document,
            on_defect=_tell_defect,
        )
        reconciler = self._reconciler = Reconciler(
            self._observed,
            compiler,
            self._store,
            self._ledger,
            on_published=self._published,
            want=self._maker.want,
            look_for=self._miss,
            on_seconds=self._metrics.published,
        )
        await persist(lambda: self._observed.list_all(self._api))
        return reconciler

    # What the parts tell each other

    def _published(self, published: Published, fresh: list[str], judged: list[str]) -> None:
        self._pusher.offer(published)
        self._wellbeing.keep(self._reconciler.judgements.keys())
        self._statuses.fresh(fresh)
        judgements = self._reconciler.judgements
        # Those whose signing Secret is being made will be judged anew at once.
        self._statuses.look([uid for uid in judged if judgements[uid].wants_secret is None])

    def _pods_changed(self) -> None:
        published = self._reconciler.published
        counting = [state for state in self._pusher.states if state.pod.counts]
        if published is not None and all(state.sequence >= published.sequence for state in counting):
            self._statuses.taken()
        self._statuses.look(list(self._reconciler.judgements))

    def _known(self, uid: str) -> Known | None:
        found, judgement = self._observed.objects.objects.get(uid), self._reconciler.judgements.get(uid)
        if found is None or judgement is None or found.identity.generation != judgement.identity.generation:
            return None  # judged soon
        if not self._knows_missed(judgement):
            return None  # else a Secret that only lacks its label would be said not to be there
        facts = Facts(
            judgement=self._with_problem(judgement),
            line_sequence=self._ledger.line_sequence(judgement),
            pods=self._pusher.states,
            report=self._wellbeing.get(uid),
            configuration_sequence=self._ledger.configuration_sequence(judgement, found.status),
        )
        return Known(found, facts)

    def _knows_missed(self, judgement: Judgement) -> bool:
        """Whether every Secret that it missed was looked for, and it was made with what was found."""
        if not judgement.lacks_secrets or self._settings.takes_every_secret:
            return True
        is_current = judgement.hidden == judgement.missing & self._reconciler.hidden
        return is_current and self._missed.knows(judgement.missing)

    def _with_problem(self, judgement: Judgement) -> Judgement:
        """Says of a signing Secret that is to be made why it is not."""
        wanted = judgement.wants_secret
        problem = self._maker.problems.get((wanted.owner.namespace, wanted.name)) if wanted else None
        if wanted is None or problem is None:
            return judgement
        message = f"spec.signing.keys: the Secret {wanted.name} cannot be generated: {problem}"
        return replace(judgement, resolved=Refusal(Reason.SECRET_NOT_FOUND, message))

    def _written(self, found: CustomObject, answer: Raw) -> None:
        self._observed.objects.wrote(custom_object(found.identity.kind, answer))

    def _hide(self, name: Name) -> None:
        if name not in self._reconciler.hidden:
            self._reconciler.hidden.add(name)
            self._reconciler.changed()

    def _show(self, name: Name) -> None:
        if name in self._reconciler.hidden:
            self._reconciler.hidden.remove(name)
            self._reconciler.changed()

    def _miss(self, names: Iterable[Name]) -> None:
        if not self._settings.takes_every_secret:  # else it would be seen
            self._missed.want(names)

    def _looked_for(self, name: Name) -> None:
        if name not in self._reconciler.hidden:  # else what refers to it is judged anew
            judgements = self._reconciler.judgements
            self._statuses.look([uid for uid, judged in judgements.items() if name in judged.missing])

    # Tasks

    async def _follow_pods(self) -> None:
        """Pods come and go: each watch begins with a list, and every hint is followed by one."""
        collection = path_of("discovery.k8s.io/v1", "endpointslices", self._settings.namespace)
        query = {"labelSelector": f"kubernetes.io/service-name={self._settings.release}-admin"}
        while True:
            try:
                await self._list_pods(collection, query)
                async for _ in self._api.hints(collection, SLICES_SECONDS, **query):
                    await self._list_pods(collection, query)
                await asyncio.sleep(BETWEEN_SECONDS)
            except (ApiUnavailable, ApiRefused) as error:
                _log.warning("the dispatcher's pods cannot be listed", problem=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _list_pods(self, collection: str, query: dict[str, str]) -> None:
        slices = await self._api.list(collection, **query)
        self._pusher.pods_are(pods_of(slices, self._settings.app_admin_port_name))

    async def _keep_listing(self) -> None:
        """A list now and then, and whenever a watch may have missed something: what it lacks is gone."""
        while True:
            await wait_for(self._resync, RESYNC_SECONDS)
            self._resync.clear()
            try:
                await self._observed.list_all(self._api)
            except (ApiUnavailable, ApiRefused) as error:
                _log.warning("cannot list", problem=str(error))
                self._resync.set()
                await asyncio.sleep(RETRY_SECONDS if isinstance(error, ApiUnavailable) else REFUSED_SECONDS)
                continue
            self._reconciler.verify()
            self._statuses.look(list(self._reconciler.judgements))
            self._tell_unserved()

    def _tell_unserved(self) -> None:
        before = (datetime.now(UTC) - timedelta(seconds=UNSERVED_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")
        foreign = self._foreign()
        self._told_unserved &= {(found.identity.uid, found.identity.generation) for found in foreign}
        told = 0
        for found in foreign:
            version = (found.identity.uid, found.identity.generation)
            is_served = found.status.get("observedGeneration") == found.identity.generation
            if is_served or version in self._told_unserved or found.identity.created >= before:
                continue
            message = f"no dispatcher named {found.dispatcher} has taken it; see spec.dispatcherRef"
            self._events.tell(News(found.identity, "Warning", "NotServed", message, ""))
            self._told_unserved.add(version)
            told += 1
            if told == NOT_SERVED_AT_ONCE:  # the others' turn comes; news of what is served waits for none of these
                break

    def _foreign(self) -> list[CustomObject]:
        """Objects of other dispatchers, as they are now."""
        objects = self._observed.objects.objects
        foreign = [objects.get(found.key) for found in self._reconciler.compiled.foreign]
        return [found for found in foreign if found is not None]

    # What it says of itself

    def _check_health(self) -> None:
        reconciler, api = self._reconciler, self._api

        def watches() -> str | None:
            # While the API server does not answer at all, to be restarted would not help.
            if time.monotonic() - api.answered_at > UNREACHABLE_SECONDS or not self._watches.silent:
                return None
            return f"silent for too long: {', '.join(self._watches.silent)}"

        def reachable() -> str | None:
            return "no answer" if time.monotonic() - api.answered_at > UNREACHABLE_SECONDS else None

        self._health.live["watches"] = watches
        self._health.ready = {
            "API server": reachable,
            "lease": lambda: None if self._lease.is_held else "not held",
            "configuration": lambda: None if reconciler.published is not None else "nothing published yet",
            "lists": lambda: None if self._watches.are_listed else "not everything was listed yet",
        }

    def _offer_metrics(self) -> None:
        metrics, reconciler = self._metrics, self._reconciler
        metrics.gauges(
            "leading",
            "1 while the lease is held, by the dispatcher that this operator works for.",
            "dispatcher",
            lambda: [(self._settings.dispatcher_name, float(self._lease.is_held))],
        )
        metrics.gauge(
            "sequence",
            "Sequence of the configuration that is stored.",
            lambda: reconciler.published.sequence if reconciler.published else 0,
        )
        metrics.gauge("status_queue", "Objects whose status is to be looked at.", lambda: self._statuses.queue)
        metrics.gauges("pods", "Pods of the dispatcher by what they have.", "state", self._pod_states)
        metrics.gauges("subscriptions", "Subscriptions by whether they are ready.", "ready", self._readiness)
        metrics.gauges(
            "foreign_subscriptions", "Objects that name another dispatcher.", "dispatcher", self._foreign_dispatchers
        )

    def _pod_states(self) -> Iterable[tuple[str, float]]:
        published = self._reconciler.published
        return _counted(
            ("current", "behind", "unreachable"),
            [_pod_state(state, published.sequence if published else 0) for state in self._pusher.states],
        )

    def _readiness(self) -> Iterable[tuple[str, float]]:
        objects, judgements = self._observed.objects.objects, self._reconciler.judgements
        words = [
            "true" if condition(objects[uid].status, "Ready").get("status") == "True" else "false"
            for uid, judgement in judgements.items()
            if uid in objects and judgement.identity.kind == "WebhookSubscription"
        ]
        return _counted(("true", "false"), words)

    def _foreign_dispatchers(self) -> Iterable[tuple[str, float]]:
        counted = Counter(found.dispatcher for found in self._foreign())
        named = counted.most_common(NAMED_DISPATCHERS)
        others = counted.total() - sum(count for _, count in named)
        return [*((name, float(count)) for name, count in named), *([("(others)", float(others))] if others else [])]


def _tell_defect(identity: Identity, error: Exception) -> None:
    # Where, not what: the message might show what a Secret holds.
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("object cannot be judged", object=str(identity), problem=type(error).__name__, where=where)


def _pod_state(state: PodState, sequence: int) -> str:
    if state.problem is not None:
        return "unreachable"
    return "current" if state.sequence >= sequence else "behind"


def _counted(always: Iterable[str], words: Collection[str]) -> list[tuple[str, float]]:
    counted = Counter(dict.fromkeys(always, 0))
    counted.update(words)
    return [(word, float(count)) for word, count in counted.items()]
