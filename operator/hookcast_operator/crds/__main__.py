"""`python -m hookcast_operator.crds [--check]`: writes the definitions, their copies in the chart, and their pages."""

import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from hookcast_operator.crds.definition import definition
from hookcast_operator.crds.kinds import KINDS, Kind
from hookcast_operator.crds.pages import page

ROOT = Path(__file__).parents[3]
_HEADER = "# Written by `python -m hookcast_operator.crds`; change the models instead.\n"


class _Plain(yaml.SafeDumper):
    """Without aliases: a reader of a definition should not have to look things up."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  the base's signature
        return True


def files(root: Path = ROOT) -> Mapping[Path, str]:
    """What every generated file has to hold, by path."""
    return {path: text for kind in KINDS for path, text in _files(root, kind).items()}


def _files(root: Path, kind: Kind) -> Mapping[Path, str]:
    value = definition(kind)
    text = yaml.dump(value, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
    sample = (root / "manifests/samples/kubernetes" / kind.sample).read_text(encoding="utf-8")
    conditions = (root / "docs/conditions.md").read_text(encoding="utf-8").partition("\n\n")[2]
    return {
        root / f"manifests/crds/{kind.plural}.yaml": _HEADER + text,
        root / f"charts/hookcast/templates/crds/{kind.plural}.yaml": _templated(text),
        root / f"docs/{kind.name.lower()}.md": page(value, sample, conditions),
    }


def _templated(text: str) -> str:
    """The chart's copy: left out on demand, and kept when the release goes, with the objects of its kind."""
    annotations = "  annotations:\n"
    kept = f"{annotations}    helm.sh/resource-policy: keep\n"
    return f"{_HEADER}{{{{- if .Values.crds.enabled }}}}\n{text.replace(annotations, kept, 1)}{{{{- end }}}}\n"


def main(arguments: list[str]) -> int:
    """Writes what differs, or with `--check` only says what does; the exit status is then 1."""
    differing = {
        path: text for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in differing.items():
        print(path.relative_to(ROOT))  # noqa: T201  a command's output
        if arguments != ["--check"]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(arguments == ["--check"] and bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
