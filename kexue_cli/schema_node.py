"""A dataclass in Hydra's store that becomes a configuration only when one refers to it.

`ConfigStore.store` converts at once, which costs over a millisecond for each dataclass of every
task; a command needs about ten of them.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigNode
from omegaconf import DictConfig, OmegaConf


class SchemaNode(ConfigNode):
    """What `ConfigStore.load` finds under a name; it asks a copy for `node` and sets it anew."""

    def __init__(self, name: str, group: str, schema: type) -> None:
        self.name, self.group, self.schema = name, group, schema
        self.package = self.provider = None
        self.made: DictConfig | None = None

    @property
    def node(self) -> DictConfig:
        """The dataclass' fields and defaults."""
        if self.made is None:
            self.made = OmegaConf.structured(self.schema)
        return self.made

    @node.setter
    def node(self, value: DictConfig) -> None:
        self.made = value
