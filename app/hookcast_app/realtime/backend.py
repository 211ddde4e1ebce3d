"""What other parts of the app do with channels and their clients, without being a client."""

from typing import NamedTuple

from hookcast_app.realtime.census import Census
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.nodes import Nodes
from hookcast_app.realtime.presence import Presence
from hookcast_app.realtime.streams import Streams


class Backend(NamedTuple):
    """Lives as long as the realtime part; usable while that runs."""

    rules: ChannelRules
    streams: Streams
    presence: Presence
    nodes: Nodes
    census: Census
