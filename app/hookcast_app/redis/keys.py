"""The names of everything in Redis, in one place.

A ref stands for an event. Lanes refer to an event by its reference: the ref and, if the event has an ordering key, a
space and what stands for that key, so that whoever reads a lane knows which deliveries must wait for which.

`hookcast:{<tag>}:` begins every key of a partition, so that one script can reach all of them on a Redis Cluster.

    event:<ref>             hash: m record, b body, s subscriptions matched, n deliveries open, h digest,
                            x dead letters, d:<uid> delivery once attempted: its record and, once it has ended, a
                            line break and its entry in its place; c:<uid> it was cancelled; o for how many seconds it
                            is kept once it has ended, if there was no room for it in the index any more
    remembered              hash: by ref of an event whose publisher chose its id: when (epoch s, 4 bytes), its digest
                            (16 bytes) and number of matches
    remembered:order        stream: when and ref of each of these, the oldest first; see events/remembered.py
    events                  stream: refs of accepted events in order, b bytes stored up to each
    stored                  bytes that all events took that were ever stored
    ring                    sorted set: lanes by the time (epoch ms) at which they want attention
    hungry                  set: lanes read to their end; the next publish to one wakes a dispatcher
    disabled                hash: lanes that an endpoint's answers disabled
    failing                 hash: what a lane's dispatcher knows of an endpoint that fails, for the next one
    kept:version            rises with every change by REST to these two
    kept:subscriptions, kept:secrets     hashes: by UID and by name, encrypted
    kept:changes            hash: by version, token and what was changed, of the last changes
    dispatchers             hash: by token, until when (epoch ms) a dispatcher is believed to be there, and its lanes
    buried                  set: lanes with dead letters
    tasks                   sorted set: ids of tasks that are not done, by when (epoch ms) to look at them
    task:<id>               hash: what is to be done, its step, how many deliveries were looked at and moved
    instance, schema        tell this data set from others, and the version of this layout
    alive                   is written to see whether writing works
    layout                  of the tag 0 alone: how many partitions there have been, one number after the other
    switches                how often that changed, and when (epoch ms by this partition's Redis) each time
    outbox                  stream: publications that are still to go to their channels (Redis Cluster)
    relay                   token of the process that takes them from there
    channel:pub:<name>      the Redis channel that carries a realtime channel's publications; where all of `channel:`
                            is, see realtime/shards.py
    channel:position:<name> hash: o offset of the newest publication, e epoch
    channel:history:<name>  stream: publications by their offset
    channel:present:<name>, channel:expiries:<name>     hash and sorted set: clients, and until when they are there
    channel:claim:<client>, channel:holders:<client>    whose a client id is, and by which connections
    channel:once:<name>:<key>   position of a publication with an idempotency key, or of an event
    channel:nodes:all, channel:node:<uid>   Redis channels on which processes tell one another things, all or one
    mark                    there while all of this is moved to another Redis, and afterwards: see moving.py
    lane:<uid>:lease        token of the dispatcher that works this lane
    lane:<uid>:waiting      stream: references in order; those in flight stay until they are settled
    lane:<uid>:later        sorted set: references by the time of their next attempt
    lane:<uid>:delivered, …:dead, …:discarded     streams: references in the order in which they got there
"""

from hookcast_app.references import ref_of

PREFIX = "hookcast:"
PLACES = ("waiting", "later", "delivered", "dead", "discarded")


class Keys:
    """The keys of one partition; `tag` is the integer whose slot puts it on its node.

    What there is once, however many partitions there are, has the tag 0: that is a partition's in every layout.
    """

    def __init__(self, tag: int = 0) -> None:
        self.tag = tag
        self.prefix = f"{PREFIX}{{{tag}}}:"
        self.ring = f"{self.prefix}ring"
        self.hungry = f"{self.prefix}hungry"
        self.events = f"{self.prefix}events"
        self.stored = f"{self.prefix}stored"
        self.remembered = f"{self.prefix}remembered"
        self.remembered_order = f"{self.prefix}remembered:order"
        self.disabled = f"{self.prefix}disabled"
        self.buried = f"{self.prefix}buried"
        self.tasks = f"{self.prefix}tasks"
        self.dispatchers = f"{self.prefix}dispatchers"
        self.failing = f"{self.prefix}failing"
        self.wake = f"{self.prefix}wake"
        self.mark = f"{self.prefix}mark"
        self.instance = f"{self.prefix}instance"
        self.schema = f"{self.prefix}schema"
        self.alive = f"{self.prefix}alive"
        self.layout = f"{self.prefix}layout"
        self.switches = f"{self.prefix}switches"
        self.outbox = f"{self.prefix}outbox"
        self.relay = f"{self.prefix}relay"

    def event(self, reference: str) -> str:
        """An event's hash, by its ref or a lane's reference to it."""
        return f"{self.prefix}event:{ref_of(reference)}"

    def kept(self, part: str) -> str:
        """What is kept by REST: its version, subscriptions or secrets."""
        return f"{self.prefix}kept:{part}"

    def task(self, task: str) -> str:
        """A task's hash."""
        return f"{self.prefix}task:{task}"

    def places(self, uid: str) -> list[str]:
        """The places of a lane's deliveries, as scripts take them."""
        return [self.lane(uid, place) for place in PLACES]

    def lane(self, uid: str, part: str) -> str:
        """A lane's lease, or one of the places of its deliveries."""
        return f"{self.prefix}lane:{uid}:{part}"
