#!/usr/bin/env python3
"""Makes tests/data/templates.json: what Python's jinja2, set up as transformers does, makes of the
templates and expressions below.

Needs `pip install jinja2==3.1.6`. Each case has `template`, `request` (an index into `requests`, whose
members are those of ChatRequest) and `expected`, or `error`: true.
"""

import datetime
import json
import pathlib

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from template_cases import CHAT_TEMPLATES, EXPRESSIONS, TEMPLATES

NOW = 1750000000

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a \"city\" <now> & then; é 🙂",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city\nits name"},
                    "days": {"type": "integer", "minimum": 0, "default": 1.5},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                },
                "required": ["city"],
            },
        },
    }
]

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "type": "function",
            "id": "abcdefghi",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}},
        }
    ],
}

CONVERSATIONS = [
    [{"role": "user", "content": "  Hello, <|im_end|> wörld 🙂 \n"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTwo. "},
        {"role": "user", "content": "Three?"},
    ],
    [
        {"role": "system", "content": ""},
        {"role": "user", "content": "Weather?"},
        CALL,
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "{\"t\": 20}"},
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "again"},
    ],
    [
        {"role": "user", "content": [{"type": "text", "text": "part one "}, {"type": "image"}]},
        {"role": "assistant", "content": "fine"},
    ],
    [{"role": "assistant", "content": "out of turn"}, {"role": "wizard", "content": "?"}],
    [],
]

VARIABLES = {
    "s": "Hello World",
    "u": "  žluťoučký kůň 🙂\u2003\n",
    "lines": "one\n\ntwo\r\nthree\n",
    "empty": "",
    "quote": "it's \"so\" \\ \t\u00e9",
    "n": 7,
    "f": 2.5,
    "yes": True,
    "nothing": None,
    "l": [3, 1, 2],
    "words": ["b", "A", "c", "a", "B"],
    "mixed": [1, "a", None, True, 1.5, [2], {"k": "v"}],
    "d": {"b": 1, "a": [1, 2], "items": 5, "c": {"x": "y"}},
    "people": [
        {"name": "ann", "age": 30, "tags": ["x"], "home": {"city": "Oslo"}},
        {"name": "Bob", "age": 25, "tags": [], "home": {"city": "Rome"}},
        {"name": "cid", "age": 30, "admin": True, "home": {"city": "oslo"}},
    ],
}


def make_environment():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message):
        raise ValueError(message)

    def strftime_now(pattern):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(pattern)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


def make_requests():
    requests = []
    for conversation in CONVERSATIONS:
        for tools in (None, TOOLS):
            for prompt in (True, False):
                requests.append(
                    {"messages": conversation, "tools": tools, "add_generation_prompt": prompt}
                )
    return [*requests, {"messages": [], "tools": None, "add_generation_prompt": True, **VARIABLES}]


def render(environment, template, request):
    try:
        variables = {"bos_token": "<s>", "eos_token": "</s>", "documents": None, **request}
        return {"expected": environment.from_string(template).render(**variables)}
    except Exception:
        return {"error": True}


def main():
    environment = make_environment()
    requests = make_requests()
    templates, cases = [], []
    for template in CHAT_TEMPLATES:
        for index in range(len(requests) - 1):
            result = render(environment, template, requests[index])
            cases.append({"template": len(templates), "request": index, **result})
        templates.append(template)
    for template in [*TEMPLATES, *("{{ " + each + " }}" for each in EXPRESSIONS)]:
        result = render(environment, template, requests[-1])
        cases.append({"template": len(templates), "request": len(requests) - 1, **result})
        templates.append(template)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path = pathlib.Path(__file__).parents[2] / "tests" / "data" / "templates.json"
    path.write_text(
        '{"now":%d,\n"requests":%s,\n"templates":%s,\n"cases":[\n%s\n]}\n'
        % (NOW, json.dumps(requests), json.dumps(templates, indent=0), lines)
    )
    errors = [templates[case["template"]] for case in cases if "error" in case]
    print(len(cases), "cases,", len(errors), "errors")
    for template in errors:
        if len(template) < 100:
            print("  error:", template)


if __name__ == "__main__":
    main()
