"""What OpenAI's own client makes of the gateway at argv[1]; JSON on standard output. Run by test_chat.py."""

import json
import sys

from openai import APIError, OpenAI, UnprocessableEntityError

client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
asked = [{"role": "user", "content": "How do I return shoes?"}]
whole = client.chat.completions.create(model="m", messages=asked, user="ann")
chunks = list(client.chat.completions.create(model="m", messages=asked, stream=True, stream_options={"include_usage": True}))
told = {
    "whole": whole.choices[0].message.content, "id": whole.id, "package": whole.model_extra["package"],
    "stream": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    "used": [whole.usage.completion_tokens, chunks[-1].usage.completion_tokens],
    "text": client.completions.create(model="m", prompt="hi").choices[0].text,
    "models": [m.id for m in client.models.list()],
}  # fmt: skip
try:
    list(client.chat.completions.create(model="m", messages=asked, stream=True, user="dying"))
except APIError as error:
    told["broken"] = str(error)
try:
    client.chat.completions.create(model="m", messages=[])
except UnprocessableEntityError as error:
    told["refused"] = error.body["message"]
json.dump(told, sys.stdout)
