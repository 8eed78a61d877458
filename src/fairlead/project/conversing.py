"""What a project makes where a provider answers: its model is an address, a prompt and parameters."""

import asyncio
from typing import Any

from fairlead.core.artifact import Artifact
from fairlead.core.chat import Conversation, Provider
from fairlead.core.decision import Decision
from fairlead.core.ref import Ref
from fairlead.errors import Invalid
from fairlead.flow import chat
from fairlead.project.house import Progress, quiet
from fairlead.project.making import Making
from fairlead.serve.provider import converse
from fairlead.settings import secret

__all__ = ["Conversing"]


class Conversing(Making):
    """The verbs that make something, for a service with `chat` as well."""

    def train(self, *, on_progress: Progress = quiet, **how: Any) -> Artifact:
        """Train a model, or compose one of what the manifest's `chat` says. Raises Invalid for
        parameters or rows of a chat, which has none."""
        section = self.manifest.chat
        if section is None:
            return super().train(on_progress=on_progress, **how)
        if any(how.values()):
            raise Invalid("a service that relays to a provider trains nothing", hint="change `chat` in fairlead.yaml")
        return chat.compose(section, name=self.name, root=self.root, records=self.records, blobs=self.blobs,
                            clock=self.clock, actor=self.actor)  # fmt: skip

    def package(self, model: Ref, on_progress: Progress = quiet) -> Artifact:
        """Make a model into a package, proven in a clean process or by the conversations of its gate."""
        made = self.records.artifact(model)
        if not chat.is_chat(made):
            return super().package(model, on_progress)
        return chat.package(made, name=self.name, packages=self.state / "packages", records=self.records,
                            blobs=self.blobs, clock=self.clock, actor=self.actor)  # fmt: skip

    def _judge(self, model: Ref, baseline: Artifact | None, on_progress: Progress) -> Decision:
        made = self.records.artifact(model)
        if not chat.is_chat(made):
            return super()._judge(model, baseline, on_progress)
        return chat.gate(made, None if baseline is None else baseline.ref, self._ask, records=self.records,
                         blobs=self.blobs, clock=self.clock, actor=self.actor, on_progress=on_progress)  # fmt: skip

    def _ask(self, provider: Provider, sample: Conversation) -> chat.Reply:
        """Ask the provider, as the gateway would. Raises Unavailable when its key is nowhere."""
        file = self.root / provider.key_file if provider.key_file else None
        key = secret(provider.key_env, file) if provider.key_env or file else ""
        heard, first, whole, trouble = asyncio.run(converse(provider, sample, key))
        return chat.Reply(heard=heard, first_token=first, seconds=whole, trouble=trouble)
