"""The model below a publication as others know it, who have not this machine's directories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from evaluation.models.hub import HubName
from evaluation.models.source import model_directory
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.names import at_revision

# Of our own cards: no URL and no fraction has a slash there.
_PATH = re.compile(r"(?<![\w/:.)~-])~?/(?:[^\s|`\"'()<>]+/)*([^\s|`\"'()<>]+)")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`name`: on the Hub, where `is_on_hub`; else what to call it."""

    name: str
    revision: str | None
    is_on_hub: bool

    @classmethod
    def of(cls, model: ModelIdentity, given: str | None) -> BaseModel:
        """The one that the factors name, or `given`, which a user knows it by on the Hub."""
        if given is not None:
            hub = HubName.of(given)
            assert hub is not None  # checked where it came in
            return cls(hub.repository, hub.revision, is_on_hub=True)
        if model.revision is not None:
            return cls(model.name, model.revision, is_on_hub=True)
        if model_directory(model.name) is None:
            return cls(model.name, None, is_on_hub="/" in model.name)
        return cls(PurePosixPath(model.name).name or "model", None, is_on_hub=False)

    @property
    def reference(self) -> str:
        """For a command line."""
        return at_revision(self.name, self.revision)

    def in_factors(self, file: FactorFile) -> FactorFile:
        """The factor file with this name for its model."""
        return replace(file, model=replace(file.model, name=self.name, revision=self.revision))

    def in_config(self, config: Mapping[str, object]) -> dict[str, object]:
        """A file of settings without this machine's paths: the model's is its name, others go."""
        kept: dict[str, object] = {}
        for key, value in config.items():
            if isinstance(value, str) and PurePosixPath(value).is_absolute():
                if key.endswith("name_or_path"):
                    kept[key] = self.name
            else:
                kept[key] = value
        return kept


def without_paths(text: str) -> str:
    """A card whose absolute paths are cut to their last part."""
    return _PATH.sub(r"\1", text)
