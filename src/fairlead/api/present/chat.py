"""A chat on a screen: what was asked, what was answered, what it took."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import count, measure, span

__all__ = ["brief", "chat_view", "is_chat"]

MOST = 400
"""Characters of one message."""


def is_chat(output: Any) -> bool:
    """Whether an answer is one of a chat."""
    return isinstance(output, dict) and "finish_reason" in output


def brief(output: Mapping[str, Any]) -> str:
    """The answer in one line, as far as the log keeps it."""
    said = " ".join(str(output.get("answer", "(not kept)")).split())
    return (said if len(said) <= 60 else f"{said[:59]}…") or output["finish_reason"]


def chat_view(inputs: Mapping[str, Any], output: Any) -> RenderableType:
    """The messages of a request, the answer below them, and its figures."""
    messages = inputs.get("messages")
    whole = [{"role": "prompt", "content": messages or inputs.get("prompt", "(not kept)")}]
    asked = messages if isinstance(messages, list) else whole
    lines = [_line(str(m.get("role")), m.get("content")) for m in asked if isinstance(m, dict)]
    if is_chat(output):
        lines.append(_line("answer", output.get("answer", "(not kept)"), "bold green"))
        lines += [_line("calls", f"{c['name']}({c['arguments']})") for c in output.get("tool_calls", ())]
        lines.append(Text(f"  {_figures(output)}", "dim"))
    return Group(Text("conversation", "dim"), *lines)


def _line(role: str, content: Any, style: str = "") -> Text:
    text = content if isinstance(content, str) else "" if content is None else str(content)
    return Text.assemble((f"  {role:<10}", "dim"), (text if len(text) <= MOST else f"{text[: MOST - 1]}…", style))


def _figures(output: Mapping[str, Any]) -> str:
    """What is known of the end, the tokens, the money and the first token."""
    known = {k: v for k, v in output.items() if isinstance(v, int | float)}
    parts = [f"ended: {output['finish_reason'] or 'not at all'}"]
    if {"prompt_tokens", "completion_tokens"} <= known.keys():
        parts.append(f"{count(int(known['prompt_tokens']))} + {count(int(known['completion_tokens']))} tokens")
    if known.get("cost"):
        parts.append(f"cost {measure(known['cost'])}")
    if "first_token" in known:
        parts.append(f"first token after {span(known['first_token'])}")
    return ", ".join(parts)
