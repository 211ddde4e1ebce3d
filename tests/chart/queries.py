"""`… < manifests`: every query of the chart's alerts and dashboard as a file of rules for promtool."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import yaml

VARIABLES = {"$__rate_interval": "5m", "$namespace": "shop", "$release": "hook"}


def main() -> None:
    """Reads what `helm template` gives and writes rules."""
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    (rules,) = (document for document in documents if document["kind"] == "PrometheusRule")
    (dashboard,) = (document for document in documents if document["metadata"]["name"].endswith("-dashboard"))
    panels = json.loads(dashboard["data"]["hookcast.json"])["panels"]
    group = {"name": "dashboard", "rules": list(_recorded(panels))}
    yaml.safe_dump({"groups": [*rules["spec"]["groups"], group]}, sys.stdout)


def _recorded(panels: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    for panel in panels:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield {"record": f"panel{panel['id']}:{target['refId']}", "expr": query}


if __name__ == "__main__":
    main()
