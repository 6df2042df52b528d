"""The templates of make_template_goldens.py: chat templates in the manner of the model families, then
small templates, then expressions."""

CHAT_TEMPLATES = [
    # ChatML with a default system turn.
    """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You help.<|im_end|>
' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    # Headers around trimmed turns, the first with the beginning-of-text token.
    """{% set loop_messages = messages %}{% for message in loop_messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
    # Headers, a date, tools as JSON in the first user turn, calls and their results.
    """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content'] %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("No user message to put the tools into") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    # ChatML with tools, tool results gathered in one user turn.
    """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You help.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    # Thoughts of earlier turns are cut away; the last query is looked for from behind.
    """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    # Instructions in brackets, roles in strict turns, tools before the last user turn.
    """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
""",
    # Tags of a few characters and line ends as text.
    """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + (message['content'] or 'a call') + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    # Turns whose content may be a list of parts; another name for the assistant; strict alternation.
    """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
""",
    # Macros that write tools as declarations of functions.
    """{%- macro type_of(spec) -%}
  {%- if spec.enum is defined -%}
    {%- for each in spec.enum -%}"{{ each }}"{% if not loop.last %} | {% endif %}{%- endfor -%}
  {%- elif spec.type == 'integer' -%}number{%- else -%}{{ spec.type | default('any') }}{%- endif -%}
{%- endmacro -%}
{%- macro declare(function, indent_by=2) -%}
// {{ function.description | default('none', true) }}
type {{ function.name }} = (_: {
{%- for name, spec in function.parameters.properties.items() %}

{{ ' ' * indent_by }}{{ name }}{{ '' if name in function.parameters.required else '?' }}: {{ type_of(spec) }}
  {%- if spec.default is defined %}, // default: {{ spec.default }}{% endif %}
{%- endfor %}

}) => any;
{%- endmacro -%}
{%- for tool in tools or [] %}{{ declare(tool.function, indent_by=4) | indent(2) }}{% endfor %}
{%- for message in messages if message.content %}
[{{ loop.index }}/{{ loop.length }}] {{ message.role | upper }}: {{ message.content | string | replace('\n', ' ') | trim }}
{%- else %}
nobody spoke
{%- endfor %}""",
]

TEMPLATES = [
    "a\n", "a\n\n", "a\r\nb\rc\n", "{# c #}x", "  {# c #}\nx", "  {#- c -#}  \n x", "a {# c +#}\nx",
    "  {% if yes %}\n  x\n  {% endif %}\n  y", "x  {% if yes %}  y{% endif %}  z",
    "  {%+ if yes %}x{% endif %}", "{% if yes +%}\nx{% endif %}", "{% if yes -%}\n  x  {%- endif %}",
    "  {{ n }}\n  {{- n -}}  \n z", "{{ n }}\n{{ n }}", "{{ n -}}\n\n {{ n }}",
    "\n{% set a = 1 %}\n{{ a }}\n", "{% for i in l %}\n{{ i }}\n{% endfor %}\nend",
    "}  {% if yes %}x{% endif %}", "{{ n }}  {% if yes %}x{% endif %}", "\u2003 {%- if yes %} x{% endif %}",
    "{% raw %}{{ x }}{% endraw %}", "  {% raw %}\n {{ x }} \n  {% endraw %}\n y",
    "a {%- raw -%}  {% if %}  {%- endraw -%}  b", "{ { a } } {% if yes %}{{ '}}' }}{% endif %} %}",
    "{{ '%}' }}{{ \"{{\" }}", "{{ {'a': {'b': 1}} }}", "{{ {'a':{}}}}", "{{ {}}}",
    "{% for i in l %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is undefined }}{% endfor %}",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{% else %}none{% endfor %}",
    "{% for i in l if i > 9 %}{{ i }}{% else %}none{% endfor %}", "{% for i in nope %}x{% else %}y{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for c in s %}{{ c }}.{% endfor %}",
    "{% for (a, b) in [[1, 2], [3, 4]] %}{{ a + b }}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% for a in 1, 2 %}{{ a }}{% endfor %}", "{% for a in [1, 2] + [3] %}{{ a }}{% endfor %}",
    "{% for i in l %}{% for j in l %}{{ i * j }}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% break %}",
    "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ j }}{% endfor %}{{ i }}{% endfor %}",
    "{% for i in 5 %}{% endfor %}", "{% for i in nothing %}{% endfor %}", "{% for i in d.items %}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if nope %}{% set x = 2 %}{% endif %}{{ x }}|{{ x is defined }}",
    "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns['a'] }}",
    "{% set ns = namespace() %}{{ ns.x is defined }}{% set ns.x = [] %}{% set ns.x = ns.x + [1] %}{{ ns.x }}",
    "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}",
    "{% set a, b = [1] %}", "{% set x %}  a{{ n }}{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}", "{% filter upper %}a{{ s }}{% endfilter %}",
    "{% filter trim | upper %}  a {% endfilter %}", "{% with a = 1, b = n %}{{ a + b }}{% endwith %}{{ a }}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% macro m(a, b=2, c=n) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(a=1, c=5) }}|{{ m() }}",
    "{% macro m(a) %}x{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}x{% endmacro %}{{ m(z=2) }}",
    "{% macro m(a) %}x{% endmacro %}{{ m(1, a=2) }}", "{% macro m(a) -%} {{ a }} {%- endmacro %}[{{ m(1) }}]",
    "{% macro m(i) %}{{ i }}{% if i > 0 %}{{ m(i - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ late }}{% endmacro %}{% set late = 5 %}{{ m() }}",
    "{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{{ m is defined }}{% macro m() %}{% endmacro %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ l | map('string') | map('upper') | join(m('-')) }}",
    "{% if n == 7 %}a{% elif n == 8 %}b{% else %}c{% endif %}", "{% if n > 7 %}a{% elif n < 8 %}b{% endif %}",
    "{% if nope %}a{% elif nope2 %}b{% endif %}|", "{% if n, %}tuple{% endif %}", "{% if %}{% endif %}",
    "{% if yes %}", "{% endif %}", "{% for %}", "{% for i in l %}", "{% unknown %}", "{{ }}", "{{ 1", "{% if yes", "{# x",
    "{{ 'a }}", "{% set true = 1 %}", "{% set 1 = 1 %}", "{{ (1 }}", "{{ 1) }}", "{{ [1, 2 }}", "{{ a b }}", "{{ ? }}",
    "{% raw %}x", "{{ raise_exception('stop') }}", "{% if nope %}{{ raise_exception('stop') }}{% endif %}ok",
    "{{ strftime_now('%Y-%m-%d %H:%M') }}", "{{ strftime_now('%d %b %Y') }}", "{{ strftime_now('') }}",
    "{{ range(3) | list }}{{ range(1, 4) | list }}{{ range(5, 0, -2) | list }}", "{{ range(200000) }}", "{{ range(1, 2, 0) }}",
    "{{ dict(a=1, b='x') }}{{ dict({'c': 2}, d=3) }}", "{{ 'a' 'b' }}", "{{ 1, 2 }}", "{{ (1,) }}", "{{ () }}",
    "{% set x = {'a': 1, 'b': [1, 2,],} %}{{ x.a }}{{ x['b'][1] }}{{ x.c }}|{{ x.get('a') }}{{ x.get('z') }}{{ x.get('z', 5) }}",
    "{%- for person in people -%}\n  {{- person.name }}: {{ person.tags | default(['none'], true) | join(', ') }}\n{% endfor -%}",
    "{% for key, group in {} %}{% endfor %}ok", "{% set x = people | map(attribute='age') | list %}{{ x }}{{ x | unique | list }}",
    "{% for i in l -%}\n {{ i }}\n{%- endfor %}", "{%- if yes -%}\n\n x \n\n{%- else -%} y {%- endif -%}\n z",
    "\n  \n{%- set a = 1 -%}\n\n{{ a }}", "{% if yes %}\n\n{% endif %}x", "  {% if yes %}  {% endif %}  \nx",
    "{{ u[3:] }}{{ u | trim }}|{{ u.strip() }}|{{ u | upper }}", "{{ l.append(4) }}", "{{ d.update({'x': 1}) }}",
    "{{ nope.x }}", "{{ nope['x'] }}", "{{ nope() }}", "{{ s() }}", "{{ nope.x.y }}", "{{ d.nope }}|{{ d.nope.x }}",
    "{{ s.nope }}|{{ n.nope }}|{{ nothing.nope }}|{{ l.nope }}", "{{ nothing.x.y }}", "{{ m }}|{{ m | length }}", "{{ d.items() | list }}{{ d.items is callable }}",
]

EXPRESSIONS = [
    # literals and printing
    "1", "1.0", "1.5", "1e3", "1e16", "1e22", "1.5e-7", "0.1 + 0.2", "100000000000000000000.0", "1_000", "true", "True",
    "false", "none", "None", "'a'", '"b"', "'\\n'", "'\\x41\\u00e9\\101\\q\\\\'", "'it\\'s'", "[1, 'a', none, true]", "[]", "{}",
    "[1.0, 2.50]", "('a', 1)", "{'a': 1, 2: 'b', none: 3}", "{1: 'a', 1.0: 'b', true: 'c'}", "{[1]: 2}", "quote", "[quote]",
    "[\"it's\"]", "['say \"x\"']", "['\\n\\t\\\\ é 🙂']", "['\\x00\\x7f']", "mixed", "d", "nothing", "nope", "[nope]", "[u]",
    "9223372036854775807", "-0.0", "-1", "+1", "- -1", "[-1.5, -2]", "123456789.123456789", "5e-324", "1e15", "0.0001", "0.00001",
    # arithmetic
    "1 + 2 * 3", "(1 + 2) * 3", "7 / 2", "6 / 2", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7 % -3", "7.5 // 2", "-7.5 % 2",
    "2 ** 10", "2 ** -1", "2 ** 3 ** 2", "-2 ** 2", "1 / 0", "1 // 0", "1 % 0", "1.0 / 0", "n + f", "n * f", "true + 1", "'a' + 1",
    "'a' + 'b'", "'a' * 3", "3 * 'ab'", "'a' * -1", "[1] * 2", "[1] + [2]", "[1] + (2,)", "(1,) + (2,)", "1 + nope", "nope + 'a'",
    "'a' + nope", "none + 'a'", "'a' ~ 1 ~ none ~ nope ~ [1] ~ 1.5", "1 ~ 2 + 3", "1 + 2 ~ 3", "10 - 2 - 3", "2 * 3 % 4", "-n", "-s",
    "+s", "n - 1 if n else 2", "- n | abs", "-3 | abs", "(-3) | abs", "2 - -1",
    # comparisons and logic
    "1 == 1.0", "1 == true", "'1' == 1", "[1, 2] == [1, 2]", "[1] == (1,)", "{'a': 1} == {'a': 1.0}", "none == none", "nope == none",
    "nope == nope2", "1 < 2 < 3", "1 < 3 < 2", "'a' < 'b'", "'a' < 'B'", "[1, 2] < [1, 3]", "1 < 'a'", "none < 1", "nope < 1", "2 >= 2",
    "1 != 2", "'ž' > 'z'", "true and 'x'", "'' or 'y'", "0 and 1", "not 1", "not nope", "not not s", "1 and 2 or 3", "not 1 == 2",
    "1 in l", "9 in l", "9 not in l", "not 9 in l", "'ell' in s", "'' in s", "1 in s", "'b' in d", "'z' in d", "'a' in nope", "1 in none",
    "'a' in ['a', 'b']", "[3] in [[3]]", "none in mixed", "'x' if yes else 'y'", "'x' if nope", "'x' if nope else 'y' if n else 'z'",
    "('x' if yes) ~ ('y' if not yes)", "1 if 2 if 0 else 3", "1 == 1 == 1", "1 in [1] == true", "s is defined and s | length > 3",
    # access
    "s[0]", "s[-1]", "s[99]", "u[2]", "u[-2]", "l[0]", "l[-1]", "l[9]", "l['x']", "d['b']", "d.b", "d['nope']", "d.c.x", "d['c']['x']",
    "d.keys() | list", "d.values() | list", "d['items']", "d.get('items')", "people[0].home.city", "people.0.name", "s.0",
    "s[1:3]", "s[:3]", "s[3:]", "s[::-1]", "s[::2]", "s[-3:]", "s[:-3]", "s[5:2]", "s[99:]", "s[-99:3]", "s[8:2:-2]", "l[1:]", "l[::-1]",
    "l[:0]", "l[none:none]", "u[2:5]", "s[::0]", "n[1:]", "s['a':]", "(1, 2, 3)[1:]", "l[true]", "d[1]", "d[[1]]", "mixed[6].k", "mixed[5][0]",
    "s.__class__", "messages", "tools", "documents", "bos_token ~ eos_token", "l[-3]", "l[-4]", "s[1:-1:3]", "s[-1:-4:-1]",
    # string methods
    "s.upper()", "s.lower()", "s.title()", "'heLLo wOrld'.capitalize()", "'  a b '.strip()", "'  a '.lstrip() ~ '|'", "'  a '.rstrip() ~ '|'",
    "'xxaxx'.strip('x')", "'abcba'.strip('ab')", "'éaé'.strip('é')", "s.split()", "' a  b '.split()", "'a,b,c'.split(',')", "'a,b,c'.split(',', 1)",
    "'a b c d'.split(none, 2)", "'a,b,c'.rsplit(',', 1)", "' a b  c '.rsplit(none, 1)", "'a b  c '.split(none, 1)", "'abc'.split('')", "''.split()",
    "''.split(',')", "'a--b-c'.split('--')", "s.startswith('He')", "s.startswith(('x', 'He'))", "s.endswith('ld')", "s.endswith('x')",
    "s.replace('o', '0')", "s.replace('o', '0', 1)", "s.replace('', '-')", "s.replace('l', '')", "','.join(['a', 'b'])", "','.join([1])", "','.join('abc')",
    "s.find('o')", "s.find('x')", "u.find('kůň')", "s.count('l')", "s.count('')", "'aaa'.count('aa')", "lines.splitlines()", "'12'.isdigit()", "''.isdigit()",
    "'a1'.isalnum()", "'ab'.isalpha()", "' '.isspace()", "'prefix-x'.removeprefix('prefix-')", "'x.py'.removesuffix('.py')", "'ab'.removesuffix('')",
    "s.upper(1)", "s.split(1)", "s.nope()", "'ǅ'.lower()", "'ÉÀ'.lower()", "'они'.upper()", "\"they're bill's\".title()", "'a-b c_d 1x'.title()",
    # dictionaries and lists as objects
    "d | length", "d | list", "d | items | list", "nope | items | list", "people | length", "l.count(1)", "l.index(2)", "l.index(9)",
    "d.get('c').get('x')", "d.get()", "d == d", "d | tojson", "l | tojson",
    # filters of values
    "nope | default('x')", "nope | d", "nothing | default('x')", "nothing | default('x', true)", "'' | default('x', boolean=true)", "s | default('x')",
    "s | length", "u | length", "nope | length", "n | length", "s | count", "s | upper", "s | lower", "s | title", "'a-b (c d)' | title", "'hELLO' | capitalize",
    "u | trim", "'xax' | trim('x')", "5 | trim", "s | replace('World', 'x')", "s | replace('l', 'L', 2)", "5 | replace(5, 6)", "s | string", "5 | string | length",
    "none | string", "'5' | int", "'5.9' | int", "'x' | int", "'x' | int(9)", "5.9 | int", "-5.9 | int", "true | int", "none | int", "'ff' | int(0, 16)", "' 7 ' | int",
    "[] | int", "'2.5' | float", "'x' | float", "'x' | float(1.5)", "3 | float", "'1e3' | float", "nope | int", "-3.5 | abs", "s | abs", "2.5 | round", "3.5 | round",
    "2.567 | round(2)", "2.5 | round(0, 'floor')", "2.1 | round(method='ceil')", "1234 | round(-2)", "2.675 | round(2)", "7 | round", "s | safe", "lines | indent",
    "lines | indent(2, true)", "lines | indent(2, blank=true)", "lines | indent('> ')", "'' | indent(2, true)", "'a\\n' | indent", "s | reverse", "l | reverse | list",
    # filters of collections
    "l | first", "l | last", "[] | first", "[] | last", "s | first", "s | last", "nope | first", "n | first", "l | join", "l | join(', ')", "s | join('-')", "mixed | join('|')",
    "people | join(', ', attribute='name')", "l | sort", "words | sort", "words | sort(case_sensitive=true)", "words | sort(reverse=true)", "l | sort(true)", "mixed | sort",
    "people | sort(attribute='age') | map(attribute='name') | join(',')", "people | sort(attribute='home.city') | map(attribute='name') | join(',')", "d | dictsort",
    "{'b': 1, 'A': 2} | dictsort", "{'b': 1, 'A': 2} | dictsort(true)", "{'b': 1, 'A': 2} | dictsort(by='value')", "{'b': 1, 'a': 2} | dictsort(reverse=true)",
    "words | unique | list", "words | unique(case_sensitive=true) | list", "people | unique(attribute='age') | map(attribute='name') | list", "l | min", "l | max", "[] | min",
    "words | min", "words | max", "people | max(attribute='age')", "l | sum", "people | sum(attribute='age')", "l | sum(start=10)", "['a'] | sum", "s | list", "nope | list", "n | list",
    "people | map(attribute='name') | list", "people | map(attribute='home.city') | list", "people | map(attribute='admin') | list", "people | map(attribute='admin', default=false) | list",
    "people | map('length') | list", "words | map('upper') | list", "words | map('replace', 'a', 'x') | list", "l | map | list", "words | map('nope') | list", "[[1, 2], [3, 4]] | map('first') | list",
    "[[1, 2], [3, 4]] | map(attribute=1) | list", "l | select | list", "[0, 1, '', 'a'] | select | list", "l | select('odd') | list", "l | reject('odd') | list", "l | select('gt', 1) | list",
    "l | select('>', 1) | list", "people | selectattr('admin') | map(attribute='name') | list", "people | rejectattr('admin') | map(attribute='name') | list",
    "people | selectattr('age', 'equalto', 30) | map(attribute='name') | list", "people | selectattr('age', 'eq', 25) | list | length", "people | rejectattr('age', 'gt', 26) | map(attribute='name') | list",
    "people | selectattr('admin', 'defined') | list | length", "people | selectattr('home.city', 'in', ['Oslo', 'Paris']) | list | length", "people | selectattr('name', 'nope') | list",
    "people | selectattr | list", "l | batch(2) | list", "l | batch(2, 0) | list", "l | nope", "nope | nope2", "l | first | string", "s | lower | replace(' ', '_') | upper", "d | first",
    "l | reverse | first", "[3, [1]] | list", "words | join(d=', ')", "l | length(1)", "l | join(nope=1)", "people | map(attribute='tags') | select('defined') | list", "[1, 1.0, true, 2] | unique | list",
    # JSON
    "d | tojson(indent=2)", "d | tojson(indent=4)", "mixed | tojson", "u | tojson", "u | tojson(ensure_ascii=true)", "'<a href=\"x\">&\\'' | tojson", "quote | tojson", "'\\x00\\x1f\\x7f\\u2028' | tojson",
    "nope | tojson", "1.0 | tojson", "1e100 | tojson", "none | tojson", "true | tojson", "[] | tojson(indent=2)", "{} | tojson(indent=2)", "[[], {}] | tojson(indent=1)", "{'b': 1, 'a': 2} | tojson(sort_keys=true)",
    "l | tojson(separators=(',', ':'))", "d | tojson(separators=(',', ':'))", "{1: 2, none: 3, true: 4, 1.5: 5} | tojson", "(1, 2) | tojson", "people | tojson(indent=2)", "l | tojson(indent='--')", "d | tojson(indent=0)",
    "{'a': nope} | tojson", "namespace(a=1) | tojson", "range | tojson", "-0.0 | tojson", "1e22 | tojson",
    # tests
    "s is defined", "nope is defined", "nope is not defined", "nope is undefined", "nothing is none", "nothing is not none", "nope is none", "s is string", "n is string", "l is string",
    "d is mapping", "l is mapping", "people[0] is mapping", "l is iterable", "s is iterable", "n is iterable", "d is iterable", "nothing is iterable", "nope is iterable", "l is sequence", "s is sequence",
    "d is sequence", "n is sequence", "(1, 2) is sequence", "n is number", "f is number", "yes is number", "s is number", "n is integer", "yes is integer", "f is float", "n is float", "yes is boolean",
    "n is boolean", "yes is true", "1 is true", "yes is false", "n is odd", "n is even", "s is odd", "n is divisibleby 7", "n is divisibleby(2)", "n is eq 7", "n is equalto(8)", "n is ne 7", "n is gt 6", "n is lt(7)",
    "n is ge 7", "n is le 6", "n is in [7, 8]", "n is in(l)", "'a' is in 'abc'", "n is sameas n", "yes is sameas true", "1 is sameas true", "'ABC' is upper", "'ABc' is upper", "'abc' is lower", "'1' is lower", "range is callable",
    "s is callable", "n is nope", "s is string and n is number", "not s is string", "s is not string or yes", "n is defined == true", "(n is defined) == true", "d.nope is defined", "d.c.x is defined", "nope.x is defined",
    "people[0].admin is defined", "people[9] is defined", "[] is none", "n is in l or yes", "s is string if yes else 2", "l is iterable and l is not mapping and l is not string",
]
