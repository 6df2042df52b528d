"""The report: one HTML file that needs no other."""

import base64
import html

from . import tasks

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; display: block; margin: 1rem auto; }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0 1rem; }
th, td { border-bottom: 1px solid #e5e5e5; padding: .2rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { background: #f6f6f6; vertical-align: bottom; }
summary { cursor: pointer; color: #336; }
.samples td { text-align: left; vertical-align: top; width: 33%; white-space: pre-wrap; }
mark { background: #ffd54d; } .caption { color: #555; }
"""


def table(title, heads, rows):
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
                   for row in rows)
    return (f"<details><summary>{html.escape(title)}</summary><table><tr>{head}</tr>{body}"
            "</table></details>")


def section(figure, folder):
    svg = base64.b64encode((folder / f"{figure.name}.svg").read_bytes()).decode()
    tables = "".join(table(*entry) for entry in figure.tables)
    return (f'<h2 id="{figure.name}">{html.escape(figure.title)}</h2>'
            f'<p class="caption">{html.escape(figure.caption)}</p>'
            f'<img alt="{html.escape(figure.title)}" src="data:image/svg+xml;base64,{svg}">'
            f"{tables}")


def first_difference(pieces, other):
    """Index of the first token that differs, None where one only ends earlier or nothing does."""
    for index, (piece, known) in enumerate(zip(pieces, other)):
        if piece != known:
            return index
    return None


def marked(pieces, position):
    """The text, with the token at `position` marked."""
    if position is None:
        return html.escape("".join(pieces))
    return (html.escape("".join(pieces[:position])) + "<mark>" + html.escape(pieces[position])
            + "</mark>" + html.escape("".join(pieces[position + 1:])))


def samples(study):
    cells = study.of_kind("generation")
    if not cells:
        return ""
    parts = ['<h2 id="samples">Generated text</h2><p class="caption">The same prompts, continued '
             "greedily; the first token that differs from full attention is marked.</p>"]
    for domain in dict.fromkeys(cell["cell"]["domain"] for cell in cells):
        own = [cell for cell in cells if cell["cell"]["domain"] == domain]
        full = next((c for c in own if c["cell"]["policy"] == "full"), own[0])["result"]["pieces"]
        heads, texts = [], []
        for cell in own:
            attention = cell["result"]["attention"]
            pieces = cell["result"]["pieces"]
            realised = attention["realised_sparsity"]
            heads.append(html.escape(cell["cell"]["policy"])
                         + ("" if realised is None else f"<br>realised sparsity {realised:.3f}")
                         + f"<br>{len(pieces)} tokens")
            texts.append(marked(pieces, first_difference(pieces, full)))
        parts.append(f"<h3>{html.escape(domain)}</h3><p>{html.escape(own[0]['cell']['prompt'])}</p>"
                     '<table class="samples"><tr>'
                     + "".join(f"<th>{head}</th>" for head in heads) + "</tr><tr>"
                     + "".join(f"<td>{text}</td>" for text in texts) + "</tr></table>")
    return "".join(parts)


def facts(study):
    settings, origin = study.settings, study.origin
    rows = [("model", settings.get("model")), ("command", origin.get("command")),
            ("commit", origin.get("commit")), ("version", origin.get("version")),
            ("machine", f"{origin.get('machine')}, {origin.get('threads')} threads"),
            ("windows of each text", f"{settings.get('windows')} of {settings.get('context')} "
                                     "tokens"),
            ("key-value cache", settings.get("cache_type")),
            ("measurements", str(len(study.cells)))]
    return "<table>" + "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td>"
                               "</tr>" for name, value in rows) + "</table>"


def write(study, figures, folder):
    """report.html in `folder`, where the figures already are."""
    contents = "".join(f'<li><a href="#{figure.name}">{html.escape(figure.title)}</a></li>'
                       for figure in figures)
    model = html.escape(str(study.settings.get("model")))
    page = (f"<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>SiftAttention on "
            f"{model}</title><style>{STYLE}</style></head><body><h1>SiftAttention on {model}</h1>"
            f"{facts(study)}<ul>{contents}</ul>"
            + "".join(section(figure, folder) for figure in figures)
            + "".join(f"<p>{html.escape(sentence)}</p>" for sentence in tasks.too_few(study))
            + samples(study)
            + "</body></html>\n")
    (folder / "report.html").write_text(page, encoding="utf-8")
